//! What the kernel carries because no worker takes it: when that begins and ends is told.

use std::time::{Duration, Instant};

use crate::net::Stage;
use crate::ruleset::Installed;
use crate::text::counted;

/// It has ended when nothing was carried for so long.
const QUIET: Duration = Duration::from_secs(3);

/// Packets by stage.
type Counts = Vec<(Stage, u64)>;

/// What has been seen and said.
#[derive(Debug, Default)]
pub(super) struct Carrying {
    /// As last read; none before.
    last: Option<Counts>,
    /// While the kernel carries: what was counted before, and when it last was more.
    since: Option<(Counts, Instant)>,
}

impl Carrying {
    /// Reads what the kernel has carried, and tells of it. None if it does not stand in.
    pub(super) fn look(&mut self, installed: &Installed) -> Option<Counts> {
        let counts: Counts =
            installed.carried()?.into_iter().map(|(stage, (packets, _))| (stage, packets)).collect();
        if let Some(line) = self.seen(&counts, Instant::now()) {
            crate::messages::message!(KERNEL_CARRIES, "{line}");
        }
        Some(counts)
    }

    /// Takes the counts of now; what is to be told, if something is.
    pub(super) fn seen(&mut self, counts: &Counts, now: Instant) -> Option<String> {
        let Some(last) = self.last.replace(counts.clone()) else {
            // The counters of a killed node go on counting.
            let all = by_stage(counts, &[]);
            return (!all.is_empty())
                .then(|| format!("the kernel carried packets before dunnat served: {all}"));
        };
        let is_more = *counts != last;
        match &mut self.since {
            None if is_more => {
                let more = by_stage(counts, &last);
                self.since = Some((last, now));
                Some(format!("the kernel carries packets, because no worker takes them: {more}"))
            }
            Some((_, latest)) if is_more => {
                *latest = now;
                None
            }
            Some((before, latest)) if now.duration_since(*latest) >= QUIET => {
                let more = by_stage(counts, before);
                self.since = None;
                Some(format!("the kernel carries no packets any more. It carried: {more}"))
            }
            None | Some(_) => None,
        }
    }
}

/// What is more than before, as `dnat 3 packets, spoof 1 packet`.
fn by_stage(counts: &Counts, before: &[(Stage, u64)]) -> String {
    let before = |stage: Stage| before.iter().find(|(its, _)| *its == stage).map_or(0, |(_, count)| *count);
    // After a foreign flush they begin anew.
    let more =
        counts.iter().map(|(stage, count)| (stage, count.checked_sub(before(*stage)).unwrap_or(*count)));
    let more: Vec<String> = more
        .filter(|(_, more)| *more > 0)
        .map(|(stage, more)| format!("{stage} {}", counted(more, "packet")))
        .collect();
    more.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_and_ends_is_told_once() {
        let mut carrying = Carrying::default();
        let start = Instant::now();
        let mut at = |seconds, dnat, spoof| {
            let counts = vec![(Stage::Dnat, dnat), (Stage::Spoof, spoof)];
            carrying.seen(&counts, start + Duration::from_secs(seconds))
        };
        insta::assert_snapshot!(at(0, 4, 0).unwrap(), @"the kernel carried packets before dunnat served: dnat 4 packets");
        assert_eq!(at(1, 4, 0), None);
        insta::assert_snapshot!(at(2, 6, 1).unwrap(), @"the kernel carries packets, because no worker takes them: dnat 2 packets, spoof 1 packet");
        assert_eq!(at(3, 7, 1), None);
        assert_eq!(at(5, 7, 1), None, "not for long");
        insta::assert_snapshot!(at(6, 7, 1).unwrap(), @"the kernel carries no packets any more. It carried: dnat 3 packets, spoof 1 packet");
        assert_eq!(at(9, 7, 1), None);
        // Somebody has flushed all rules.
        insta::assert_snapshot!(at(10, 2, 0).unwrap(), @"the kernel carries packets, because no worker takes them: dnat 2 packets");
        assert_eq!(Carrying::default().seen(&vec![(Stage::Dnat, 0)], start), None);
    }
}
