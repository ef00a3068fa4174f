//! Kernels that have a known fault in nfnetlink_queue.

use std::cmp::Ordering;
use std::fmt;

/// A release of the kernel as kernel.org counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

/// Whether a kernel has a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Has {
    Yes,
    No,
    /// The series is not in our list, or the fault's releases are known by their dates only.
    Perhaps,
}

/// A fault, and which kernels have it.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// The first release that has it.
    since: Version,
    /// In each series, the first release that has it no more; ascending.
    mended: &'static [Version],
    /// The first series that never had it, or was mended before its release.
    never_again: (u32, u32),
    /// The releases are announced ones, and not guessed from dates.
    announced: bool,
}

/// From the announcements of the stable kernels, 2022 to 2026.
pub(super) const FAULTS: [Fault; 3] = [
    Fault {
        name: "CVE-2022-36946",
        what: "a verdict with 0 or 1 byte of payload makes the kernel panic; dunnat sends none, but another \
               program may",
        since: Version(2, 6, 14),
        mended: &[Version(5, 18, 15)],
        never_again: (5, 19),
        announced: true,
    },
    Fault {
        name: "CVE-2026-43451",
        what: "a bad verdict on a bridged VLAN frame leaks the packet; dunnat has no queue in the bridge \
               family, but another program may",
        since: Version(4, 7, 0),
        mended: &[Version(6, 1, 167), Version(6, 6, 130), Version(6, 12, 78), Version(6, 18, 19)],
        never_again: (7, 0),
        announced: true,
    },
    // Merged as e19079adcd26 in February 2026, undone by 936206e3f6ff in April, against 6.18.23.
    Fault {
        name: "queue-rhashtable",
        what: "with several queues, their shared table of waiting packets may return freed memory",
        since: Version(6, 18, 9),
        mended: &[Version(6, 18, 25), Version(7, 0, 2)],
        never_again: (7, 1),
        announced: false,
    },
];

impl Version {
    /// From `uname -r` and `uname -v`: distributions hide the release of kernel.org in the second.
    ///
    /// Debian writes "... Debian 6.1.192-2 (...)"; without such a word, a release that ends in .0 with more behind
    /// it is a distribution's own count, and does not tell.
    pub(super) fn read(release: &str, version: &str) -> Option<Self> {
        let words: Vec<&str> = version.split_whitespace().collect();
        if let Some([_, of_debian]) = words.windows(2).find(|pair| pair[0] == "Debian") {
            return Self::parse(of_debian);
        }
        let plain = Self::parse(release)?;
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        if plain.2 == 0 && end < release.len() { None } else { Some(plain) }
    }

    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text.get(..end)?.split('.').map(str::parse);
        let mut next = || numbers.next().transpose().ok().map(Option::unwrap_or_default);
        Some(Self(next()?, next()?, next()?)).filter(|version| version.0 > 0)
    }
}

impl Fault {
    pub(super) fn is_in(&self, version: Version) -> Has {
        let series = (version.0, version.1);
        if version < self.since || series >= self.never_again {
            return Has::No;
        }
        match self.mended.iter().find(|mended| (mended.0, mended.1) == series) {
            Some(mended) => match version.cmp(mended) {
                Ordering::Less if self.announced => Has::Yes,
                Ordering::Less => Has::Perhaps,
                _ => Has::No,
            },
            None => Has::Perhaps,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_distributions_write() {
        let read = |release, version| Version::read(release, version).map(|version| version.to_string());
        assert_eq!(read("6.18.44", "#1 SMP"), Some("6.18.44".to_owned()));
        assert_eq!(read("6.18.44-custom", "#1 SMP"), Some("6.18.44".to_owned()));
        assert_eq!(
            read("6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-08-01)"),
            Some("6.1.192".to_owned())
        );
        assert_eq!(read("5.14.0-503.el9.x86_64", "#1 SMP"), None);
        assert_eq!(read("7.0", "#1 SMP"), Some("7.0.0".to_owned()));
        assert_eq!(read("", ""), None);
    }

    #[test]
    fn a_fault_is_in_a_series_until_it_is_mended_there() {
        let [panic, leak, shared] = &FAULTS;
        let cases = [
            (panic, Version(5, 18, 14), Has::Yes),
            (panic, Version(5, 18, 15), Has::No),
            (panic, Version(5, 10, 200), Has::Perhaps),
            (panic, Version(6, 1, 0), Has::No),
            (leak, Version(6, 1, 166), Has::Yes),
            (leak, Version(6, 1, 192), Has::No),
            (leak, Version(6, 5, 13), Has::Perhaps),
            (leak, Version(6, 18, 44), Has::No),
            (leak, Version(7, 0, 0), Has::No),
            (shared, Version(6, 18, 8), Has::No),
            (shared, Version(6, 18, 20), Has::Perhaps),
            (shared, Version(6, 18, 44), Has::No),
            (shared, Version(6, 19, 3), Has::Perhaps),
            (shared, Version(6, 12, 90), Has::No),
        ];
        for (fault, version, expected) in cases {
            assert_eq!(fault.is_in(version), expected, "{} in {version}", fault.name);
        }
        for fault in FAULTS {
            assert!(fault.mended.is_sorted(), "{}", fault.name);
        }
    }
}
