//! Tags that become others under flows that exist.
//!
//! A flow keeps its ct mark, so its tag has to be changed by ctnetlink, one flow after the other. Meanwhile old and new tags mean the
//! same node ([`Cluster::with_former`]). That is possible only if nobody could take one for the other: a new tag must not be
//! a tag of the old file, and no flow may have it. Where it is not possible, the reload is refused, as those flows would be silent
//! for good.

use std::io;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, NewTags, Retagged};
use crate::net::Mark;
use crate::netlink::conntrack::{Conntrack, Flow};
use crate::text::counted;

/// The flows of a host, as far as their marks are asked for.
pub(super) trait Flows {
    /// How many have these bits.
    fn count(&self, mark: Mark, mask: Mark) -> io::Result<u64>;

    /// Those that have these bits get others. How many there were.
    fn change(&self, from: Mark, to: Mark, mask: Mark) -> io::Result<u64>;
}

impl Flows for Conntrack {
    fn count(&self, mark: Mark, mask: Mark) -> io::Result<u64> {
        Ok(self.marked(mark, mask)?.len() as u64)
    }

    fn change(&self, from: Mark, to: Mark, mask: Mark) -> io::Result<u64> {
        let flows: Vec<Flow> = self.marked(from, mask)?;
        let mut changed = 0;
        for flow in &flows {
            changed += u64::from(self.set_mark(flow, to, mask)?);
        }
        Ok(changed)
    }
}

/// Which tags have to be changed; or why the new file cannot be used while there are the flows that there are. Warnings are said by
/// `warn`.
pub(super) fn allowed(
    old: &Cluster,
    new: &Cluster,
    flows: impl FnOnce() -> io::Result<Box<dyn Flows>>,
    mut warn: impl FnMut(String),
) -> Result<Vec<Retagged>, String> {
    let NewTags { changed, taken, fresh, gone, other_mask } = old.new_tags(new);
    if changed.is_empty() && taken.is_empty() && fresh.is_empty() && gone.is_empty() && !other_mask {
        return Ok(Vec::new());
    }
    let unseen = |error: io::Error| {
        format!(
            "the new file has other tags, and it cannot be seen which flows have the old ones ({error}): the \
             kernel may lack nf_conntrack_netlink; try: modprobe nf_conntrack_netlink"
        )
    };
    let flows = flows().map_err(unseen)?;
    let tags: Vec<Mark> = old.tags().map(|(tag, _)| tag).collect();
    let mut with_old = 0;
    for tag in &tags {
        with_old += flows.count(*tag, old.mask).map_err(unseen)?;
    }
    let silent = || match with_old {
        0 => "No flow has a tag now, but one may get one meanwhile".to_owned(),
        1 => "1 flow has a tag of the old file, and its replies would not reach their client".to_owned(),
        flows => format!(
            "{flows} flows have tags of the old file, and their replies would not reach their clients"
        ),
    };
    if let Some(it) = taken.first() {
        return Err(format!(
            "the tag {} of {} is {}'s in the file that is in use. {}. Give {} a tag that no node has now; \
             after that reload the old tag is free for another reload",
            it.tag,
            it.node,
            it.was,
            silent(),
            it.node,
        ));
    }
    if other_mask && with_old > 0 {
        return Err(format!(
            "the mask becomes {} and was {}. {}. Reload when these flows have ended, or restart the node and \
             lose them",
            new.mask,
            old.mask,
            silent(),
        ));
    }
    for id in changed.iter().map(|it| it.node).chain(fresh) {
        let node = new.node(id);
        let taken = flows.count(node.tag, new.mask).map_err(unseen)?;
        if taken > 0 {
            return Err(format!(
                "{} {} the new tag {} of {} already, and could not be told from those of {}. Choose a tag that no \
                 flow has",
                counted(taken, "flow"),
                if taken == 1 { "has" } else { "have" },
                node.tag,
                node.name,
                node.name,
            ));
        }
    }
    for (name, tag) in &gone {
        let flows = flows.count(*tag, old.mask).map_err(unseen)?;
        if flows > 0 {
            let (flows, be) = (counted(flows, "flow"), if flows == 1 { "is" } else { "are" });
            warn(format!(
                "{flows} that entered by {name} {be} not translated any more: the new file has no {name}"
            ));
        }
    }
    Ok(if other_mask { Vec::new() } else { changed })
}

/// How long flows are looked for that still have an old tag.
const PATIENCE: Duration = Duration::from_secs(2);

/// Changes the tags of all flows. How many flows; and whether some may be left. These are still understood, until the next reload.
pub(super) fn translate(changed: &[Retagged], mask: Mark, flows: &dyn Flows) -> (u64, Result<(), String>) {
    let mut all = 0;
    let until = Instant::now() + PATIENCE;
    loop {
        let mut found = 0;
        for Retagged { from, to, .. } in changed {
            match flows.change(*from, *to, mask) {
                Ok(flows) => found += flows,
                Err(error) => return (all + found, Err(error.to_string())),
            }
        }
        all += found;
        match found {
            0 => return (all, Ok(())),
            _ if Instant::now() > until => {
                return (all, Err("flows with an old tag still come".to_owned()));
            }
            _ => {}
        }
    }
}

/// The flows of this network namespace.
pub(super) fn of_this_host() -> io::Result<Box<dyn Flows>> {
    Ok(Box::new(Conntrack::open()?))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = include_str!("../../rules/example.toml");

    fn with(changes: &[(&str, &str)]) -> Cluster {
        let text = changes.iter().fold(EXAMPLE.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        Cluster::parse(&text, Path::new("c")).unwrap()
    }

    /// Marks of flows.
    #[derive(Clone, Default)]
    struct These(RefCell<Vec<u32>>);

    impl Flows for These {
        fn count(&self, mark: Mark, mask: Mark) -> io::Result<u64> {
            Ok(self.0.borrow().iter().filter(|it| Mark(**it) & mask == mark).count() as u64)
        }

        fn change(&self, from: Mark, to: Mark, mask: Mark) -> io::Result<u64> {
            let mut changed = 0;
            for mark in self.0.borrow_mut().iter_mut().filter(|it| Mark(**it) & mask == from) {
                *mark = *mark & !mask.0 | to.0;
                changed += 1;
            }
            Ok(changed)
        }
    }

    fn asked(new: &Cluster, marks: &[u32]) -> (Result<Vec<Retagged>, String>, Vec<String>) {
        let mut said = Vec::new();
        let flows = || Ok(Box::new(These(RefCell::new(marks.to_vec()))) as Box<dyn Flows>);
        let outcome = allowed(&with(&[]), new, flows, |warning| said.push(warning));
        (outcome, said)
    }

    #[test]
    fn flows_are_asked_for_only_if_tags_change() {
        let other = with(&[("port  = 80", "port  = 81")]);
        let never = || Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(allowed(&with(&[]), &other, never, |_| ()), Ok(Vec::new()));
        let retagged = with(&[("tag    = 2", "tag    = 7")]);
        let refused = allowed(&with(&[]), &retagged, never, |_| ()).unwrap_err();
        assert!(refused.contains("permission denied") && refused.contains("modprobe"), "{refused}");
    }

    #[test]
    fn an_unused_number_is_taken_for_the_flows_that_have_the_old_one() {
        let new = with(&[("tag    = 2", "tag    = 7")]);
        let changed = asked(&new, &[1, 2, 2]).0.unwrap();
        assert_eq!(changed.iter().map(|it| (it.from, it.to)).collect::<Vec<_>>(), [(Mark(2), Mark(7))]);
        let refused = asked(&new, &[1, 2, 7]).0.unwrap_err();
        assert!(refused.starts_with("1 flow has the new tag 0x7 of node2 already"), "{refused}");
        let flows = These(RefCell::new(vec![0x1, 0x102, 0x2, 0x0]));
        assert_eq!(translate(&changed, Mark(0xff), &flows), (2, Ok(())));
        assert_eq!(*flows.0.borrow(), [0x1, 0x107, 0x7, 0x0]);
    }

    #[test]
    fn what_would_silence_flows_is_refused_with_their_number() {
        let changed_places =
            with(&[("tag    = 1", "tag    = 3"), ("tag    = 2", "tag    = 1"), ("tag    = 3", "tag    = 2")]);
        let refused = asked(&changed_places, &[1, 2, 2, 0]).0.unwrap_err();
        assert_eq!(
            refused,
            "the tag 0x2 of node1 is node2's in the file that is in use. 3 flows have tags of the old file, and their \
             replies would not reach their clients. Give node1 a tag that no node has now; after that reload the old \
             tag is free for another reload"
        );
        let other_mask = with(&[("mask = \"0xffffffff\"", "mask = \"0xff\"")]);
        let refused = asked(&other_mask, &[1]).0.unwrap_err();
        assert!(refused.contains("1 flow has a tag of the old file"), "{refused}");
        assert_eq!(asked(&other_mask, &[0, 0x5500]).0, Ok(Vec::new()));
    }

    #[test]
    fn who_is_removed_takes_its_flows_along_which_is_said() {
        let (head, rest) = EXAMPLE.split_once("[[node]]").unwrap();
        let (one, rest) = rest.split_once("[[node]]").unwrap();
        let marks = &rest[rest.find("[marks]").unwrap()..];
        let alone = Cluster::parse(&format!("{head}[[node]]{one}{marks}"), Path::new("c")).unwrap();
        let (allowed, said) = asked(&alone, &[2, 2, 1]);
        assert_eq!(allowed, Ok(Vec::new()));
        assert_eq!(
            said,
            ["2 flows that entered by node2 are not translated any more: the new file has no node2"]
        );
        assert_eq!(asked(&alone, &[1]).1, [""; 0]);
    }
}
