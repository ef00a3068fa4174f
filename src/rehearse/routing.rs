//! What stops a packet without a rule and without a word: routing, and bridges.

use super::flow::{Place, Step};
use super::host::LIMIT;
use crate::kernel::tool::{self, Tool};
use crate::net::{Mark, OfFamily as _, Tuple};
use crate::packet::View;

/// What there is to be said of a packet that came by that interface and is gone. `tag` is the mark that it may have got.
pub(super) fn silent(step: &Step, by: &str, tag: Mark) -> Option<String> {
    let came = View::parse(&step.packet, step.packet.len()).ok()?.tuple;
    if matches!((step.from, step.to), (Place::Pipe(_), Place::Guest)) {
        return Some(format!(
            "no rule drops it; if the bridge {by} does not forward it, look at `bridge -d link` (isolated ports) and at `ip -d link \
             show {by}` (VLAN filtering, spanning tree)"
        ));
    }
    no_way_back(came, by).or_else(|| no_way_on(came, step.expected.tuple(), by, tag))
}

fn route(arguments: &[&str]) -> Result<String, String> {
    let all = [&["route", "get"], arguments].concat();
    tool::run_within(LIMIT, Tool::Ip, &all).map_err(|failure| failure.first_line())
}

/// There is no way back to where it comes from, or another than it came by.
fn no_way_back(came: Tuple, by: &str) -> Option<String> {
    let source = came.src.to_string();
    let Ok(route) = route(&[&source]) else {
        return Some(format!("this host has no route back to {source}"));
    };
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
    let back = words.nth(1).filter(|back| *back != by)?;
    let strict = |of: &str| {
        let setting = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"));
        setting.is_ok_and(|setting| setting.trim() == "1")
    };
    (came.src.is_ipv4() && (strict("all") || strict(by))).then(|| {
        format!(
            "the way back to {source} is {back}, and the reverse-path filter is strict (rp_filter of {by})"
        )
    })
}

/// A route or a rule of routing refuses it, perhaps for the mark that it has behind dnat.
fn no_way_on(came: Tuple, expected: Tuple, by: &str, tag: Mark) -> Option<String> {
    // Behind dnat it has its new destination, and before spoof its old source.
    let (from, to) = (came.src.to_string(), expected.dst.to_string());
    if from.parse::<std::net::IpAddr>().ok()?.family() != expected.dst.family() {
        return None;
    }
    let mark = tag.to_string();
    for more in [&[][..], &["mark", &mark]] {
        let arguments = [&[&*to, "from", &from, "iif", by], more].concat();
        if let Err(said) = route(&arguments) {
            let marked = if more.is_empty() { String::new() } else { format!(" with the mark {mark}") };
            return Some(format!("routing refuses packets from {from} to {to}{marked} ({said})"));
        }
    }
    None
}
