//! A rule that dropped a packet: where the kernel has said so, nothing has to be guessed.

use super::{Case, open};
use crate::conversations::cause::Cause;
use crate::conversations::clue::Possible;
use crate::conversations::finding::{Finding, Judgement};
use crate::conversations::rule_drop::RuleDrop;
use crate::trace::Name;

impl Case<'_> {
    /// The judgement with what rules did.
    pub(super) fn by_rule(&self, judgement: Judgement) -> Judgement {
        let replied = self.find(|event| event.is_reply(self.flow.dst)).is_some();
        let explains = |drop: &RuleDrop| match (judgement.finding, judgement.cause) {
            (Finding::NoReply, _) => true,
            // Of a flow whose first packet was dropped conntrack keeps nothing.
            (Finding::NoRequest, _) | (Finding::NoCtMark, Some(Cause::NotKept)) => !replied,
            (Finding::Stalled, _) => !drop.begins(),
            (Finding::Rejected, _) => drop.rejects(),
            _ => false,
        };
        // What came through later was not stopped by it.
        let stops = |drop: &&RuleDrop| !drop.is_ours && explains(drop) && !drop.is_passed(self.events());
        let Some(drop) = self.rule_drops.iter().find(stops) else {
            let also = self.rule_drops.iter().map(RuleDrop::words);
            return Judgement { also: also.collect(), ..judgement };
        };
        let mut also: Vec<String> =
            self.rule_drops.iter().filter(|other| *other != drop).map(RuleDrop::words).collect();
        let mut says = drop.words();
        match judgement.cause {
            Some(_) => also.push(judgement.says),
            None => says += &format!(". {}", judgement.says),
        }
        let finding = match judgement.finding {
            Finding::NoRequest | Finding::NoCtMark => Finding::NoReply,
            finding => finding,
        };
        Judgement {
            finding,
            cause: Some(Cause::RuleDrop),
            causes: self.possibles(&[Cause::RuleDrop], &drop.node),
            says,
            rule: Some(Box::new(drop.clone())),
            also,
            ..judgement
        }
    }
}

/// A request was dropped before any decision was made about it.
pub(in crate::conversations) fn never_begun(drop: RuleDrop) -> Judgement {
    let says = format!("{}, before dnat", drop.words());
    let causes = vec![Possible { cause: Cause::RuleDrop, node: Some(Name::clone(&drop.node)) }];
    let judgement = open(Finding::NoReply, says, &[], causes);
    Judgement { rule: Some(Box::new(drop)), ..judgement.because(Some(Cause::RuleDrop)) }
}
