//! Who wants to use a service has to knock first: a UDP packet to port 7000, in the last 30 seconds. All else is the cluster's policy.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dunnat::cluster::{Cluster, NodeId};
use dunnat::engine::{
    Change, Changes, ClusterNat, Decide, Decision, DeclareError, Facts, Reason, Remembered, Short, Subject, Time,
    Value, Wants, Witness,
};
use dunnat::net::{Proto, Stage, Tuple};
use dunnat::packet::View;
use dunnat::policy::{Supervised, laws};
use dunnat::simulate::{Arrival, PacketSpec, SimulatedNode};

struct Knock {
    cluster: ClusterNat,
    knocked: Reason,
    unknown: Reason,
    reasons: Vec<Reason>,
}

impl Knock {
    fn new(cluster: &Cluster, own: NodeId) -> Result<Self, DeclareError> {
        let knocked = Reason::declare("knocked", "the client has knocked")?;
        let unknown = Reason::declare("not-knocked", "the client has not knocked in the last 30 seconds")?;
        let reasons = [Reason::CLUSTER, &[knocked, unknown]].concat();
        Ok(Self { cluster: ClusterNat::new(cluster, own), knocked, unknown, reasons })
    }
}

impl Decide for Knock {
    fn name(&self) -> &str {
        "knock"
    }

    fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    fn remembers(&self) -> bool {
        true
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        let usual = self.cluster.decide(facts, remembered, changes, witness);
        let (Stage::Dnat, Ok(View { tuple: Tuple { proto, src, ports: Some((_, to)), .. }, .. })) =
            (facts.stage, facts.packet)
        else {
            return usual;
        };
        let client = src.to_string();
        let Some(key) = Short::new(&[client.as_bytes()]) else { return usual };
        if (*proto, *to) == (Proto::UDP, 7000) {
            changes.push(Change { key, entry: Some((key, facts.now.after(Duration::from_secs(30)))) });
            return Decision::drop(self.knocked);
        }
        if usual.reason != Reason::Service {
            return usual;
        }
        let has = remembered.get(&key, facts.now).is_some();
        let wants = || (Subject::Saddr, Value::Address(*src), Wants::Is(Value::Word("one that has knocked")));
        if witness.holds(has, wants) { usual } else { Decision::drop(self.unknown) }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("usage: knock CLUSTER-FILE")?;
    let cluster = Cluster::load(Path::new(&file))?;
    let node1 = cluster.find("node1")?;
    let mut node = SimulatedNode::with_policy(&cluster, node1, Arc::new(Knock::new(&cluster, node1)?));
    for (seconds, packet) in [
        (0, "tcp 192.168.122.1:40000 > 192.168.122.11:80"),
        (1, "udp 192.168.122.1:50000 > 192.168.122.11:7000"),
        (2, "tcp 192.168.122.1:40000 > 192.168.122.11:80"),
        (3, "tcp 192.168.122.2:40000 > 192.168.122.11:80"),
        (31, "tcp 192.168.122.1:40000 > 192.168.122.11:80"),
    ] {
        let asked: PacketSpec = packet.parse()?;
        let arrival = Arrival { time: Time(Duration::from_secs(seconds)), ..asked.arrival(&cluster, node1) };
        let passage = node.pass(arrival);
        let Some((_, Ok(visit))) = passage.steps.first() else { return Err("it was not queued".into()) };
        println!("{packet}: {} {}", visit.decision.verdict, visit.decision.reason);
    }
    // Whom it lets pass, it translates as any translator has to.
    let policy = Supervised::new(Arc::new(Knock::new(&cluster, node1)?), &cluster, node1, 1);
    let bytes = |packet: &str| Ok::<_, Box<dyn Error>>(packet.parse::<PacketSpec>()?.arrival(&cluster, node1).bytes);
    let meta = dunnat::engine::Meta::default();
    let now = Time::default();
    laws::passed(&policy, Stage::Dnat, &bytes("udp 192.168.122.1:50000 > 192.168.122.11:7000")?, &meta, now);
    let request = bytes("tcp 192.168.122.1:40000 > 192.168.122.11:80")?;
    let seen = laws::there_and_back((&policy, &policy), Stage::Dnat, &request, now)?;
    println!("there and back: {}", seen.ok_or("it was not changed")?);
    Ok(())
}
