//! Faults in guests, which no node sees.

use super::*;

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn faults_of_guests_are_diagnosed() {
    let of_guest = |name, breaks: &str, mends: &str, path| Case {
        name,
        after: vec![sh("guest1", breaks)],
        undo: vec![sh("guest1", mends)],
        node: "node1",
        doctor: Doctor::Unseen("the guests (gateway, routes, firewall"),
        path,
        ..Case::default()
    };
    let routes = "ip route add default via 10.5.5.254; ip route add default via fd00:5::fe";
    let up = format!("ip link set eth0 up; ip addr add fd00:5::201/64 dev eth0 nodad || true; {routes}");
    let firewall = |rule: &str| {
        format!(
            "nft 'table inet fw {{ chain it {{ type filter hook input priority 0; tcp dport 80 {rule}; }}; }}'"
        )
    };
    let gone = "nft delete table inet fw";
    diagnose(
        "guests",
        vec![
            of_guest(
                "guest without a default route",
                "ip route del default; ip -6 route del default",
                routes,
                Path::Cause(&["silent"], None),
            ),
            of_guest(
                "guest off",
                "ip link set eth0 down",
                &up,
                Path::Cause(&["no-neighbour", "unreachable", "silent"], None),
            ),
            of_guest("guest's firewall drops", &firewall("drop"), gone, Path::Cause(&["silent"], None)),
            of_guest(
                "guest's firewall resets",
                &firewall("reject with tcp reset"),
                gone,
                Path::Cause(&["reset"], None),
            ),
            of_guest(
                "guest's firewall rejects",
                &firewall("reject with icmpx type admin-prohibited"),
                gone,
                Path::Cause(&["prohibited"], None),
            ),
            of_guest(
                "guest with the gateway's address on another node",
                "ip neigh replace 10.5.5.254 lladdr 0e:00:00:00:01:00 nud permanent dev eth0",
                "ip neigh flush nud permanent dev eth0",
                Path::Cause(&["gateway-mac"], None),
            ),
        ],
    );
}
