//! What makes an explanation honest, checked for one decision.

use proptest::prelude::*;

use super::*;
use crate::cluster::NodeId;
use crate::engine::{
    Condition, Conditions, NoWitness, Row, Subject, Table, Tables, Value, Wants, decide, decide_before,
};
use crate::net::{CtMark, Mark};
use crate::simulate::Visit;

/// A witness changes nothing; what it is told is so; the last of it has decided; and what is made of it in words agrees.
pub(super) fn hold(cluster: &Cluster, node: NodeId, visit: &Visit) -> Result<(), TestCaseError> {
    let read = visit.view.as_ref().map_err(|malformed| *malformed);
    let tables = &Tables::new(cluster, node);
    let decided = decide(tables, visit.stage, read, &visit.meta);
    let mut conditions = Conditions::new();
    prop_assert_eq!(decide_before(tables, visit.stage, read, &visit.meta, &mut conditions), decided);
    let mut carried_out = decided;
    let patch = carried_out.work_out(&visit.bytes, read, visit.checksum, &mut NoWitness);
    prop_assert_eq!((visit.decision, visit.patch), (carried_out, patch));
    let told_of_bytes = usize::from(visit.decision != decided);
    prop_assert_eq!(&visit.conditions[..visit.conditions.len() - told_of_bytes], &conditions[..]);

    // The verdict and the stage are among those that the table of reasons has.
    let row = visit.decision.reason.row().unwrap();
    prop_assert!(row.stages.contains(&visit.stage), "{:?}", visit);
    prop_assert!(row.verdict.is_none_or(|verdict| verdict == visit.decision.verdict), "{:?}", visit);

    for condition in &visit.conditions {
        prop_assert!(is_so(condition), "{:?}", condition);
        prop_assert!(looked_up_right(cluster, node, visit, condition), "{:?}", condition);
    }
    let last = visit.conditions.last();
    prop_assert!(last.is_some_and(|last| has_decided(visit.decision.reason, last)), "{:?}", visit);

    let told = asked(cluster, node, visit);
    prop_assert_eq!(told.len(), visit.conditions.len());
    for (asked, condition) in told.iter().zip(&visit.conditions) {
        prop_assert_eq!(asked.holds, condition.holds);
        prop_assert!(!asked.says.is_empty() && !asked.says.contains("  "), "{:?}", asked);
        let fits = asked.rows.iter().filter(|row| row.misses.is_none()).count();
        prop_assert_eq!(fits, usize::from(asked.holds && !asked.rows.is_empty()), "{:?}", asked);
        // Each other row has a difference in the cluster file, and the one that was found has none.
        let found = asked.row.clone().filter(|_| condition.looked_up().is_some_and(|it| is_service(it.0)));
        let nowhere = Condition { wants: nothing_found(condition.wants), ..*condition };
        let without = Visit { conditions: vec![visit.conditions[0], nowhere], ..visit.clone() };
        let again = super::asked(cluster, node, &without).remove(1);
        let same =
            again.rows.iter().filter(|row| row.misses.as_deref() == Some("another service goes before"));
        let same: Vec<String> = same.map(|row| row.name.trim_start_matches("service ").to_owned()).collect();
        prop_assert!(again.rows.is_empty() || same == Vec::from_iter(found), "{:?}", again);
    }
    Ok(())
}

fn is_service(table: Table) -> bool {
    matches!(table, Table::Services | Table::ServicesOfGuests)
}

fn nothing_found(wants: Wants) -> Wants {
    match wants {
        Wants::OneOf(table, _) => Wants::OneOf(table, None),
        other => other,
    }
}

/// The outcome follows from what the condition says of itself.
fn is_so(condition: &Condition) -> bool {
    let Condition { value, wants, holds, .. } = *condition;
    let expected = match (value, wants) {
        (Value::Address(own), Wants::Is(Value::Address(wanted))) => own == wanted,
        (Value::Address(own), Wants::In(Value::Network(network))) => network.contains(&own),
        (Value::Address(_), Wants::Is(Value::Nothing) | Wants::In(Value::Nothing)) => false,
        (Value::Error(from, about), Wants::In(Value::Network(network))) => {
            network.contains(&from) || network.contains(&about.dst)
        }
        (Value::Mark(own, _), Wants::IsNot(Value::Mark(not, _))) => own != not,
        (Value::CtMark(own, _), Wants::IsNot(Value::Mark(not, _))) => own != CtMark::Is(not),
        (Value::CtMark(own, _), Wants::Is(Value::Mark(wanted, _))) => own == CtMark::Is(wanted),
        (own, Wants::IsNot(Value::Nothing)) => own != Value::Nothing,
        (_, Wants::OneOf(_, row)) => row.is_some(),
        (Value::Malformed(_) | Value::Family(_), _) => false,
        (Value::Word(own), Wants::Is(Value::Word(wanted))) => own == wanted,
        // What the packet is: the view tells.
        _ => return true,
    };
    expected == holds
}

/// The row is the one that a walk through the cluster file finds.
fn looked_up_right(cluster: &Cluster, own: NodeId, visit: &Visit, condition: &Condition) -> bool {
    let Some((table, row)) = condition.looked_up() else { return true };
    let by = |fits: &dyn Fn(NodeId) -> bool| cluster.node_ids().find(|id| fits(*id)).map(Row::Node);
    match (table, condition.value) {
        (Table::Macs, Value::Mac(mac)) => {
            row == by(&|id| cluster.node(id).mac.is_some_and(|own| own.contains(mac)))
        }
        (Table::Dscps, Value::Dscp(dscp)) => row == by(&|id| cluster.node(id).dscp == Some(dscp)),
        (Table::Tags, Value::Mark(mark, _) | Value::CtMark(CtMark::Is(mark), _)) => {
            row == by(&|id| cluster.node(id).tag == mark)
        }
        (Table::Tags, Value::CtMark(CtMark::Another, _)) => row.is_none(),
        (Table::Pipes, _) => {
            let place = cluster.pipes(own).iter().position(|pipe| Some(pipe) == visit.ingress.port());
            place.is_none() || row == cluster.node(own).leads_to.get(place.unwrap()).copied().map(Row::Node)
        }
        _ => true,
    }
}

/// The reason follows from the last condition.
fn has_decided(reason: Reason, last: &Condition) -> bool {
    let table = last.looked_up().map(|(table, _)| table);
    let is_services = table.is_some_and(is_service);
    let is_zero = matches!(last.wants, Wants::Is(Value::Mark(Mark::ZERO, _)));
    match (last.subject, last.holds) {
        (Subject::Daddr, false) => matches!(reason, Reason::NotPublic | Reason::NotToGuest),
        (Subject::Neighbours, false) => reason == Reason::NoService,
        (Subject::Dport, true) => reason == Reason::Service,
        (Subject::Dport, false) => matches!(reason, Reason::NoService | Reason::Fragment),
        (Subject::QuotedSport, true) => reason == Reason::ErrorAboutReply,
        (Subject::QuotedSport | Subject::QuotedSaddr, false) => reason == Reason::NoService,
        (Subject::Pipe, false) if table.is_some() => reason == Reason::UnknownPipe,
        (Subject::Pipe, false) => reason == Reason::NotFromPipe,
        (Subject::Frame, false) if table.is_some() => reason == Reason::UnknownMac,
        (Subject::Frame, false) => reason == Reason::NoMac,
        (Subject::Dscp, false) => reason == Reason::UnknownDscp,
        (Subject::Mark | Subject::CtMark, false) if table.is_some() => reason == Reason::UnknownTag,
        (Subject::Mark, false) => reason == Reason::Unmarked,
        (Subject::CtMark, true) if is_zero => matches!(reason, Reason::FromNode | Reason::Saved),
        (Subject::CtMark, true) => reason == Reason::AlreadySaved,
        (Subject::CtMark, false) => matches!(reason, Reason::MarkConflict | Reason::Unmarked),
        (Subject::Saddr, true) => reason == Reason::EntryNode,
        (Subject::Saddr, false) => reason == Reason::NotFromGuest,
        // Behind `saddr` it is about the port alone.
        (Subject::Sport, holds) if is_services => {
            reason == Reason::EntryNode || !holds && reason == Reason::Unmarked
        }
        (Subject::Service, true) => reason == Reason::OneToOne,
        (Subject::Service | Subject::QuotedDport, false) => reason == Reason::Unmarked,
        (Subject::Error, false) => reason == Reason::NotFromGuest,
        (Subject::Redirect, true) => reason == Reason::ErrorAboutRequest,
        (Subject::Redirect, false) => reason == Reason::Redirect,
        (Subject::Bytes, false) => match last.value {
            Value::Malformed(malformed) => reason == malformed.into(),
            _ => reason == Reason::Cut,
        },
        _ => false,
    }
}
