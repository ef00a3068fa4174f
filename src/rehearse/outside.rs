//! All that a rehearsal reads and somebody else has written, in one place for the target in `tests/fuzz`.

use super::copy::{route_commands, rule_command};
use super::host::read_interfaces;
use super::wire;
use crate::netlink::nftables::read_traces;
use crate::ruleset::listed;

/// Reads bytes as each tool and the kernel could have sent them, and tells how much was made of them: tables and rules of nft,
/// interfaces, routes and rules of ip, messages of traces, and frames that ask for a neighbour. Only for `tests/fuzz`.
pub fn read_from_outside(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let tables = listed::read(&text);
    let rules = tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum::<usize>();
    // What is loaded is what was listed, less some lines.
    let loaded = tables.iter().map(|table| table.text.lines().count()).sum::<usize>();
    assert!(loaded <= text.lines().count() && rules <= text.lines().count());
    let routes = route_commands(&text);
    assert!(routes.iter().all(|command| !command.contains('\n')), "one command, one line");
    rules
        + routes.len()
        + text.lines().filter_map(rule_command).count()
        + read_interfaces(&text).map_or(0, |interfaces| interfaces.len())
        + read_traces(bytes).len()
        + usize::from(wire::asks_for(bytes).is_some())
}
