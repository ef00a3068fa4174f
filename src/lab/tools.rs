//! The programs that a lab works with, each with the Debian package that has it.

use super::Error;

/// A program that is not installed, and what does not work without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub program: &'static str,
    /// The package that has it.
    pub package: &'static str,
    /// What it is for.
    pub what: &'static str,
}

/// How much depends on a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// Every lab.
    Lab,
    /// The acceptance.
    Accept,
}

const ALL: [(For, &str, &str, &str); 12] = [
    (For::Lab, "ip", "iproute2", "the machines"),
    (For::Lab, "sysctl", "procps", "their settings"),
    (For::Lab, "nft", "nftables", "their rules"),
    (For::Lab, "setsid", "util-linux", "background processes"),
    (For::Accept, "nginx", "nginx-light", "web servers on every machine, accept"),
    (For::Accept, "perl", "perl-base", "the UDP service, accept"),
    (For::Accept, "curl", "curl", "accept"),
    (For::Accept, "ping", "iputils-ping", "accept"),
    (For::Accept, "traceroute", "traceroute", "accept"),
    (For::Accept, "conntrack", "conntrack", "accept"),
    (For::Accept, "dumpcap", "wireshark-common", "accept, and the sniffer between start and stop"),
    (For::Accept, "tshark", "tshark", "accept"),
];

/// Whether a program is there, also where administrators have it and others may not.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).any(|file| file.is_file())
}

fn missing(wanted: impl Fn(For) -> bool) -> Vec<Missing> {
    let wanted = ALL.into_iter().filter(|(needs, program, ..)| wanted(*needs) && !is_there(program));
    wanted.map(|(_, program, package, what)| Missing { program, package, what }).collect()
}

/// Refuses what cannot be done without the programs that are missing.
fn need(who: &str, wanted: For) -> Result<(), Error> {
    let packages: Vec<&str> =
        missing(|needs| needs == wanted).iter().map(|missing| missing.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{who} needs these packages: {}. On Debian, as root: apt install {}",
        packages.join(", "),
        packages.join(" ")
    )))
}

/// What a lab works without, but not whole.
///
/// # Errors
/// A lab cannot be without something that is missing, too.
pub fn missing_tools() -> Result<Vec<Missing>, Error> {
    need("a lab", For::Lab)?;
    Ok(missing(|needs| needs != For::Lab))
}

/// Whether all is there that the acceptance is done with.
pub(crate) fn for_accept() -> Result<(), Error> {
    need("accept", For::Accept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::manual::{Page, rows};

    #[test]
    fn what_a_lab_needs_is_in_the_manual_and_the_readme() {
        let page = Page::named("labs").unwrap();
        let written: BTreeSet<(String, String)> =
            rows(page.text, "program").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        let needed = ALL.map(|(_, program, package, _)| (program.to_owned(), package.to_owned()));
        assert_eq!(written, BTreeSet::from(needed));
        let readme = include_str!("../../README.md");
        let named: BTreeSet<&str> = readme.split(['`', ' ', '\n']).collect();
        assert!(ALL.iter().all(|(_, _, package, _)| named.contains(package)));
    }
}
