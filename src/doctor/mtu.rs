//! Ports of the guests' bridge that carry less than others: what is too long for one is dropped without a word, so that small
//! packets pass, and transfers stall.
//!
//! A bridge has the smallest MTU of its ports until somebody sets another (net/bridge/br_if.c, `br_mtu_auto_adjust()`), so
//! its own does not tell which of them is wrong.

use super::{Fact, Host, Interface, Role, Section, Severity};

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let name = role.cluster.guests.bridge.as_str();
    let Ok(Some(bridge)) = host.interface(name) else { return Vec::new() };
    let names = role.cluster.pipes(role.node);
    let is_pipe = |it: &Interface| names.iter().any(|pipe| pipe.as_str() == it.name);
    let all = || host.interfaces.iter().flatten();
    // In the order of the cluster file.
    let pipes: Vec<&Interface> =
        names.iter().filter_map(|name| all().find(|it| it.name == name.as_str())).collect();
    let guests = all().filter(|it| it.master.as_deref() == Some(name) && !is_pipe(it));
    let widest = pipes.iter().copied().max_by_key(|pipe| pipe.mtu);
    // All that is longer has to come from a guest, or go to one.
    let (wanted, of) = widest.map_or((bridge.mtu, bridge), |pipe| (pipe.mtu, pipe));
    let of_pipes = pipes.iter().map(|pipe| of_pipe(host, bridge, pipe, wanted));
    of_pipes.chain(guests.filter(|port| port.mtu != wanted).map(|port| of_guest(port, of))).collect()
}

fn of_pipe(host: &Host, bridge: &Interface, pipe: &Interface, widest: u32) -> Fact {
    let wanted = widest.max(bridge.mtu);
    let (name, mtu) = (&pipe.name, pipe.mtu);
    let claim = format!("{name}: MTU at least that of {}", bridge.name);
    let fact = Fact::new(Section::Cluster, "pipe-mtu", claim).about(name).otherwise(
        Severity::Matters,
        "the bridge silently drops packets that are too long for this pipe: small packets pass, and transfers stall",
    );
    let others = if widest > bridge.mtu { format!(", {widest} of another pipe") } else { String::new() };
    let found = format!("{mtu} bytes, {} of {}{others}", bridge.mtu, bridge.name);
    if mtu >= wanted {
        return fact.yes(found);
    }
    if mtu == widest {
        // No pipe has more, so the bridge has too much.
        return fact.fix(format!("ip link set {} mtu {mtu}", bridge.name)).no(found);
    }
    // What lies on another interface has no more than that.
    let lower = pipe.lower.as_deref().and_then(|lower| host.interface(lower).ok().flatten());
    let lower = lower.filter(|lower| lower.mtu < wanted).map(|lower| &lower.name);
    let wider: Vec<String> =
        lower.into_iter().chain([name]).map(|name| format!("ip link set {name} mtu {wanted}")).collect();
    fact.fix(wider.join(" && ")).no(found)
}

/// `of` has the MTU that this port should have.
fn of_guest(port: &Interface, of: &Interface) -> Fact {
    let (name, wanted) = (&port.name, of.mtu);
    Fact::new(Section::Cluster, "port-mtu", format!("{name}: the MTU of {}", of.name))
        .about(name)
        .otherwise(
            Severity::Matters,
            format!(
                "a packet that is too long for a port is dropped without a word: small packets pass, and \
                 transfers stall. Make this port as wide as {}, or that as wide as this; the guest behind it needs the \
                 same MTU",
                of.name
            ),
        )
        .fix(format!("ip link set {name} mtu {wanted}"))
        .no(format!("{} bytes, {wanted} of {}", port.mtu, of.name))
}
