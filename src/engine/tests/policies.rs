//! Policies as those see them who do not know which one it is; and what policies remember.

use std::time::Duration;

use super::*;

/// Says what it is told to say of itself, and leaves every packet.
struct Own {
    name: &'static str,
    reasons: &'static [Reason],
    remembers: bool,
}

const SILENT: Own = Own { name: "silent", reasons: &[Reason::Observed], remembers: false };
const KEEPING: Own = Own { name: "keeping", reasons: Reason::NAPT, remembers: true };

impl Decide for Own {
    fn name(&self) -> &str {
        self.name
    }

    fn reasons(&self) -> &[Reason] {
        self.reasons
    }

    fn remembers(&self) -> bool {
        self.remembers
    }

    fn decide<W: Witness>(
        &self,
        _: &Facts<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        witness.holds(true, || (Subject::Policy, Value::Word("silent"), Wants::Is(Value::Word("silent"))));
        Decision::leave(Reason::Observed)
    }
}

#[test]
fn a_policy_is_the_same_whoever_asks() {
    let nat = ClusterNat::new(&cluster(), NODE1);
    let all: [(&dyn Policy, _, &[Reason], _, _); 4] = [
        (&nat, "cluster", Reason::CLUSTER, false, true),
        (&Observe, "observe", Reason::OBSERVE, false, false),
        (&SILENT, "silent", &[Reason::Observed], false, false),
        (&KEEPING, "keeping", Reason::NAPT, true, false),
    ];
    for (policy, name, reasons, remembers, is_clusters) in all {
        assert_eq!((policy.name(), policy.reasons(), policy.remembers()), (name, reasons, remembers));
        assert_eq!(policy.cluster_nat().is_some(), is_clusters, "{name}");
    }
}

/// With bytes or without, before a witness or not.
#[test]
fn a_decision_is_the_same_however_it_is_asked_for() {
    let nat = ClusterNat::new(&cluster(), NODE1);
    let tuple = "tcp 192.168.122.1:40000 > 192.168.122.11:80";
    let (bytes, packet, meta) = (bytes_of(tuple), view(tuple), Meta::default());
    let facts = Facts { stage: Stage::Dnat, packet: Ok(&packet), meta: &meta, now: Time::default() };
    let whole = Whole { bytes: &bytes, interfaces: &NoInterfaces };
    assert_eq!([Interface::In, Interface::Out].map(|which| whole.interfaces.name(which)), [None, None]);
    for policy in [&nat as &dyn Policy, &Observe, &SILENT] {
        let name = policy.name();
        let mut changes = Changes::new();
        let [mut told, mut told_whole] = [Conditions::new(), Conditions::new()];
        let decision = policy.decide(&facts, &NothingRemembered, &mut changes);
        let reason = if policy.cluster_nat().is_some() { Reason::Service } else { Reason::Observed };
        assert_eq!((decision.reason, changes.len()), (reason, 0), "{name}");
        for other in [
            policy.decide_before(&facts, &NothingRemembered, &mut changes, &mut told),
            policy.decide_whole(&facts, &whole, &NothingRemembered, &mut changes),
            policy.decide_whole_before(&facts, &whole, &NothingRemembered, &mut changes, &mut told_whole),
        ] {
            assert_eq!(other, decision, "{name}");
        }
        assert_eq!((told.is_empty(), &told), (name == "observe", &told_whole), "{name}");
    }
}

#[test]
fn a_time_is_since_1970_and_goes_no_further_than_there_is_time() {
    let minute = Duration::from_secs(60);
    let time = |seconds| Time::from(jiff::Timestamp::from_second(seconds).unwrap());
    assert_eq!([time(90), time(0), time(-1)], [Time(minute * 3 / 2), Time::default(), Time::default()]);
    assert_eq!(Time(minute).after(minute), Time(minute * 2));
    assert_eq!(Time(Duration::MAX).after(minute), Time(Duration::MAX));
}

#[test]
fn a_key_is_the_bytes_of_its_parts() {
    let whole: Vec<u8> = (0..=u8::MAX).take(SHORT).collect();
    let (one, two) = whole.split_at(SHORT / 3);
    let short = Short::new(&[one, two]).unwrap();
    assert_eq!((short.bytes(), format!("{short:?}")), (&whole[..], format!("{whole:?}")));
    assert_eq!(Short::new(&[one, two, &[0]]), None, "there is no room for more");
    assert_eq!(Short::new(&[]).unwrap().bytes(), Short::default().bytes());
    assert!(Short::default().bytes().is_empty());
    assert_eq!(Short::new(&[&[1]]).unwrap().bytes(), [1]);
    assert_eq!(NothingRemembered.get(&short, Time::default()), None);
}
