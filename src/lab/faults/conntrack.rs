//! A conntrack table that is full.
//!
//! Its limit is the machine's, and no other network namespace may set it. But each namespace counts its own flows, so one can be
//! full while the others are not. It is filled with flows as many as the limit allows.

use std::fmt::Write as _;

use crate::lab::machine::feed;
use crate::lab::tools::is_there;
use crate::lab::{Error, Lab};

/// Of a flow the kernel keeps about a kilobyte. More than these would take what the machine may need.
const AT_MOST: usize = 600_000;

/// How many flows the table of a node may have.
///
/// # Errors
/// It cannot be filled.
pub(super) fn check(lab: &Lab) -> Result<usize, Error> {
    if !is_there("conntrack") {
        return Err(Error::refused(
            "the fault 'conntrack-full' needs the program conntrack, which fills the table. On Debian, as root: apt install \
             conntrack",
        ));
    }
    let limit = limit(lab)?;
    if limit == 0 {
        return Err(Error::refused(
            "the fault 'conntrack-full' cannot be made: net.netfilter.nf_conntrack_max is 0 on this machine, so a table has no limit",
        ));
    }
    if limit > AT_MOST {
        return Err(Error::refused(format!(
            "the fault 'conntrack-full' cannot be made: a table has room for {limit} flows \
             (net.netfilter.nf_conntrack_max), and they would take about {} MB of memory. The lab fills \
             tables of at most {AT_MOST} flows",
            limit / 1000
        )));
    }
    Ok(limit)
}

fn limit(lab: &Lab) -> Result<usize, Error> {
    number(&lab.on(&lab.layout.home().name).must(&["sysctl", "-n", "net.netfilter.nf_conntrack_max"])?)
}

fn number(text: &str) -> Result<usize, Error> {
    text.trim().parse().map_err(|_| Error::refused(format!("this is no number of flows: '{}'", text.trim())))
}

/// Fills it.
pub(super) fn fill(lab: &Lab) -> Result<(), Error> {
    let limit = check(lab)?;
    let home = lab.on(&lab.layout.home().name);
    // What has a place already would give it back when it ends, and one more new flow would get through.
    home.must(&["conntrack", "-F"])?;
    let text = flows(limit);
    let mut load = home.command("conntrack");
    // It fails when somebody else has taken a place meanwhile. What counts is whether the table is full.
    let loaded = feed(load.args(["-R", "-"]), &text);
    let count = number(&home.must(&["conntrack", "-C"])?)?;
    if count >= limit {
        return Ok(());
    }
    loaded?;
    Err(Error::refused(format!(
        "the conntrack table of {} has {count} of {limit} flows, so it is not full",
        home.name
    )))
}

/// So many flows, all different, for conntrack(8). They have seen replies (assured), so the kernel does not give their places
/// to new ones. The addresses are of RFC 2544, for benchmarks: nobody has them.
fn flows(count: usize) -> String {
    let mut text = String::with_capacity(count * 190);
    for n in 0..count {
        let (client, port) = (std::net::Ipv4Addr::from(0xc612_0000 + (n / 60_000) as u32), 1024 + n % 60_000);
        let _ = writeln!(
            text,
            "-A -s {client} -d 198.19.0.1 -r 198.19.0.1 -q {client} -p udp --sport {port} --dport 9 --reply-port-src 9 \
             --reply-port-dst {port} -t 86400 -u ASSURED,SEEN_REPLY"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_all_different() {
        let text = flows(130_000);
        let all: std::collections::HashSet<&str> = text.lines().collect();
        assert_eq!(all.len(), 130_000);
        assert!(
            text.starts_with(
                "-A -s 198.18.0.0 -d 198.19.0.1 -r 198.19.0.1 -q 198.18.0.0 -p udp --sport 1024 "
            )
        );
        assert!(text.contains("-s 198.18.0.2 ") && !text.contains("-s 198.18.0.3 "));
    }
}
