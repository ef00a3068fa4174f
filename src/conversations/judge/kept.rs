//! Marks that were decided, and are others or none at the next packet or stage.

use super::{Case, certain, open};
use crate::conversations::cause::Cause;
use crate::conversations::finding::{Finding, Judgement, Proof};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::Stage;

impl<'a> Case<'a> {
    /// The packet mark that one stage decided is another at the next stage of the same node, or the flow has a ct mark that is
    /// no node's tag.
    pub(super) fn mark_changed(&self) -> Option<Judgement> {
        for save in self.events().filter(|event| event.stage == Stage::Save && !event.is_error()) {
            let decided = self.events().find(|event| {
                event.node == save.node
                    && event.run == save.run
                    && event.seq < save.seq
                    && matches!(event.stage, Stage::Dnat | Stage::Tag)
                    && event.mark.after.is_some()
                    && event.is_same_packet(save)
            });
            let (Some(decided), Some(found)) = (decided, save.mark.before) else { continue };
            let set = decided.mark.after.unwrap_or_default();
            if (set & save.mask) == (found & save.mask) {
                continue;
            }
            let says = format!(
                "{} set the mark {set} at {}, and at save the same packet has {found}: a rule of another program has changed it, so \
                 the flow gets no ct mark",
                save.node, decided.stage
            );
            return Some(
                certain(Finding::NoReply, Some(Cause::MarkChanged), says, &[decided, save])
                    .perhaps(self.possibles(&[Cause::MarkChanged], &save.node)),
            );
        }
        self.ct_mark_changed()
    }

    /// The flow has a ct mark that no node gave it.
    fn ct_mark_changed(&self) -> Option<Judgement> {
        // Where rules sort packets by it, all that is known of it is that it is another.
        let is_conflict = |event: &&Seen| event.stage == Stage::Save && event.reason == Reason::MarkConflict;
        // With another connection of the flow it may be that one's.
        for found in self.events().filter(is_conflict).filter(|_| self.others.is_empty()) {
            let is_decided = |event: &Seen| {
                event.node == found.node
                    && event.run == found.run
                    && event.reason == Reason::FromNode
                    && event.is_same_packet(found)
            };
            let Some(decided) = self.find(is_decided) else { continue };
            let mark = decided.ct_mark.as_ref().and_then(|marks| marks.after).unwrap_or_default();
            let says = format!(
                "{} decided ct mark {mark} at tag, and at save the flow of the same packet has another: a rule of another \
                 program has changed it",
                found.node
            );
            return Some(
                certain(Finding::NoReply, Some(Cause::CtMarkChanged), says, &[decided, found])
                    .perhaps(self.possibles(&[Cause::CtMarkChanged], &found.node)),
            );
        }
        let is_nobodys = |event: &Seen| {
            event.stage != Stage::Spoof
                && event.reason == Reason::MarkConflict
                && event.ct_mark.as_ref().is_some_and(|marks| {
                    marks.node.is_none() && marks.after.is_none() && marks.before.is_some()
                })
        };
        let found = self.find(is_nobodys)?;
        let mark = found.ct_mark.as_ref().and_then(|marks| marks.before).unwrap_or_default();
        let says = format!(
            "on {} the flow has the ct mark {mark}, which is no node's tag: a rule of another program has set it",
            found.node
        );
        Some(
            certain(Finding::NoReply, Some(Cause::UnknownTag), says, &[found])
                .perhaps(self.possibles(&[Cause::CtMarkChanged], &found.node)),
        )
    }

    /// A ct mark was decided on a node, and later it is not there.
    pub(super) fn not_kept(&self) -> Option<Judgement> {
        let (decided, again) = self.forgotten()?;
        let node = &decided.node;
        let mark = decided.ct_mark.as_ref().and_then(|marks| marks.after).unwrap_or_default();
        let is_later = |event: &&Seen| {
            event.node == *node && event.run == decided.run && event.seq > decided.seq && !event.is_error()
        };
        let saved = (decided.stage == Stage::Save).then_some(decided).or_else(|| {
            self.events()
                .filter(is_later)
                .find(|event| event.stage == Stage::Save && event.is_same_packet(decided))
        });
        // A packet of the guest shows that the flow came to it.
        let passed = saved.or_else(|| {
            let here = self.events().filter(is_later);
            here.into_iter().find(|event| event.is_from(self.flow.dst))
        });
        let times = self.times(decided);
        let decides = format!("{node} decided ct mark {mark} at {}", decided.stage);
        let next = format!("the next packet at {} found none", again.stage);
        let Some(passed) = passed else {
            let shows = match self.shows_all(decided) {
                true => format!("{node} shows every packet at save, and has none of it there"),
                false => format!("{node} has no event that shows it behind the forward hook"),
            };
            let causes = [
                Cause::ForwardDrop,
                // Of a frame that no port takes conntrack keeps nothing.
                Cause::NoNeighbour,
                Cause::ConntrackFull,
                Cause::NoSave,
                Cause::ConntrackForgot,
                Cause::CtMarkChanged,
            ];
            // What did not get to save was not saved by rules at tag, or was: that cannot be seen.
            let causes = self.possibles(&causes, node);
            let says =
                format!("{decides}; this is the last that shows the packet: {shows}. {}", capital(&next));
            return Some(open(Finding::NoReply, says, &[decided, again], causes));
        };
        let causes: &[Cause] = if passed.is_same_packet(again) && passed.stage == again.stage {
            // Within one packet nobody flushes anything.
            &[Cause::NoSave, Cause::CtMarkChanged]
        } else if times > 2 {
            &[
                Cause::NoSave,
                Cause::CtMarkChanged,
                Cause::ConntrackForgot,
                Cause::ForwardDrop,
                Cause::ConntrackFull,
            ]
        } else {
            &[
                Cause::ConntrackForgot,
                Cause::CtMarkChanged,
                Cause::NoSave,
                Cause::ForwardDrop,
                Cause::ConntrackFull,
            ]
        };
        let next = if again.is_same_packet(decided) {
            format!("at {} the same packet has none", again.stage)
        } else {
            next
        };
        let says = format!(
            "{decides}, and the packet passed the forward hook, but {next}: a rule changed the ct mark, or conntrack forgot the flow"
        );
        let mut judgement = certain(Finding::NoCtMark, Some(Cause::NotKept), says, &[decided, again])
            .perhaps(self.possibles(causes, node));
        let passed = Proof::from(passed);
        if !judgement.proof.contains(&passed) {
            judgement.proof.push(passed);
        }
        Some(judgement)
    }

    /// How often the same was decided.
    fn times(&self, decided: &Seen) -> u64 {
        let is_it = |event: &Seen| {
            event.node == decided.node && event.stage == decided.stage && event.reason == decided.reason
        };
        self.kept.iter().filter(|kept| is_it(&kept.event)).map(|kept| 1 + kept.more).sum()
    }

    /// The event that decided a ct mark, and a later one on that node that found none.
    pub(super) fn forgotten(&self) -> Option<(&'a Seen, &'a Seen)> {
        let mut decided: Option<&Seen> = None;
        // The home node's matters: there the reply needs it.
        for event in self.events().filter(|event| self.may_be_home(event) && !event.is_error()) {
            let Some(marks) = &event.ct_mark else { continue };
            let none = marks.before.is_some_and(|before| (before & event.mask).is_zero());
            if let Some(first) = decided.filter(|first| none && first.node == event.node) {
                return Some((first, event));
            }
            if marks.after.is_some() {
                decided = Some(event);
            }
        }
        None
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
