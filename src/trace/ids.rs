//! The two ids of a flow: as it is seen inside, and as it is seen outside.

use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::net::{CommunityId, Proto, Stage, Tuple};

/// The Community IDs of an event's flow. Of an ICMP error, those of the flow that it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowIds {
    /// Of client and guest: the same at all stages, on all nodes and in both directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<CommunityId>,
    /// Of client and called address, as others see it who look on outside. None where that address is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<CommunityId>,
}

impl FlowIds {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, id: CommunityId) -> bool {
        self.inside == Some(id) || self.outside == Some(id)
    }

    /// Those of an event. `is_guest` tells whether an address is one of guests; `called` tells of a request to a guest, as it is seen
    /// inside, how the client sent it.
    pub(super) fn of(
        event: &Event,
        is_guest: impl Fn(Tuple) -> bool,
        called: impl Fn(Tuple) -> Option<Tuple>,
    ) -> Self {
        let quoted = event.icmp.and_then(|icmp| Some((icmp.inner?, icmp.inner_after)));
        let (before, after) = match (quoted, event.before) {
            (Some((inner, after)), _) => (inner, after),
            (None, Some(before)) => (before, event.after),
            (None, None) => return Self::default(),
        };
        // What a quoted ICMP message is, is not known.
        let icmp = event.icmp.filter(|_| quoted.is_none()).map(|icmp| (icmp.kind, icmp.code));
        let id = |tuple: Tuple| CommunityId::of(tuple, icmp);
        // An error quotes what goes the other way.
        let request = |tuple: Tuple| if quoted.is_some() { tuple.reversed() } else { tuple };
        let inside = || id(before).filter(|_| is_guest(before));
        match event.stage {
            // Before a request is translated. What needs no translation has one id for both.
            Stage::Dnat => Self { inside: after.map_or_else(inside, id), outside: id(before) },
            // Before a reply is; where it is not, nobody knows how it goes out.
            Stage::Spoof => Self { inside: inside(), outside: after.and_then(id) },
            Stage::Tag | Stage::Save => {
                Self { inside: inside(), outside: called(request(before)).and_then(id) }
            }
        }
    }
}

/// The Community ID of a flow of conntrack; in ICMP a flow is a question and its answers.
pub(crate) fn of_flow(tuple: Tuple) -> Option<CommunityId> {
    let icmp = match tuple.proto {
        Proto::ICMP => Some((8, 0)),
        Proto::ICMP6 => Some((128, 0)),
        _ => None,
    };
    CommunityId::of(tuple, icmp)
}

#[cfg(test)]
mod tests {
    use crate::trace::samples;

    /// Of a foreign connection, and of errors about it.
    #[test]
    fn all_stages_and_directions_have_the_same_ids() {
        let events = samples::events();
        let ids: Vec<_> = events.iter().map(|event| event.community_id).collect();
        let (inside, outside) = (ids[0].inside.unwrap(), ids[0].outside.unwrap());
        assert_ne!(inside, outside);
        for (event, ids) in events.iter().zip(&ids).take(4) {
            assert_eq!(
                (ids.inside, ids.outside),
                (Some(inside), Some(outside)),
                "{} {}",
                event.node,
                event.stage
            );
        }
        // The errors are about that flow, too: one about a reply, before it is translated, and one about a request.
        for place in [7, 8] {
            assert_eq!(ids[place].inside, Some(inside), "{:?}", events[place]);
            assert_eq!(ids[place].outside, Some(outside));
        }
        // Whose MAC address nobody has: which address was called is not known.
        assert_eq!((ids[4].inside, ids[4].outside), (Some(inside), None));
        assert!(ids[6].is_empty(), "it could not be read");
    }
}
