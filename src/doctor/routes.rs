//! Ways out beside the public interface: what guests send there is not translated, so the guard drops it.

use ipnet::IpNet;

use super::{Fact, Host, Role, Section, Severity};

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let cluster = role.cluster;
    let fact = |claim: String| {
        Fact::new(Section::Cluster, "ways-out", claim).otherwise(
            Severity::Matters,
            "packets of guests would show their addresses there, so the guard drops them; if guests may be \
             visible there, name the network in `inside` of [guests]",
        )
    };
    let alone = format!("guests' packets go out through {} only", cluster.public);
    let routes = match &host.routes {
        Err(why) => return vec![fact(alone).unknown(why)],
        Ok(routes) => routes,
    };
    let others: Vec<&(IpNet, String)> =
        routes.iter().filter(|(to, by)| cluster.is_other_way_out(to, by)).collect();
    let mut names: Vec<&str> = others.iter().map(|(_, by)| by.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return vec![fact(alone).yes("")];
    }
    // A router has thousands; each interface is told of once.
    let of = |name: &str| {
        let to: Vec<String> =
            others.iter().filter(|(_, by)| by == name).map(|(to, _)| to.to_string()).collect();
        let more = if to.len() > 3 { format!(", and {} more", to.len() - 3) } else { String::new() };
        fact(format!("{name}: no packets of guests go out through it"))
            .about(name)
            .no(format!("routes to {}{more}", to[..to.len().min(3)].join(", ")))
    };
    names.into_iter().map(of).collect()
}
