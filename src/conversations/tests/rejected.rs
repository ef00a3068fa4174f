//! Packets that somebody rejects: by an ICMP error, or by a TCP reset.

use super::cluster::{ACK, GUEST, RST, SYN, Sim, Wrong};
use super::uncertain::{both_ways, fits, of, with};
use crate::conversations::{Cause, Finding};

#[test]
fn errors_are_named_with_their_sender() {
    const ROUTER: [u8; 4] = [198, 51, 100, 9];
    for (from, what, rest, finding, cause, says) in [
        (
            GUEST,
            (3, 3),
            [0; 4],
            Finding::Rejected,
            Some(Cause::PortUnreachable),
            "the guest 10.5.5.201 sent \"port unreachable (type 3 code 3)\"",
        ),
        (
            ROUTER,
            (3, 4),
            [0, 0, 5, 0],
            Finding::Rejected,
            Some(Cause::TooBig),
            "a router, 198.51.100.9, sent \"fragmentation needed, MTU 1280 (type 3 code 4)\"",
        ),
        (
            ROUTER,
            (3, 13),
            [0; 4],
            Finding::Rejected,
            Some(Cause::Prohibited),
            "\"administratively prohibited (type 3 code 13)\"",
        ),
        (ROUTER, (3, 1), [0; 4], Finding::Rejected, Some(Cause::Unreachable), "\"host unreachable"),
        (ROUTER, (12, 0), [0; 4], Finding::Rejected, Some(Cause::OtherError), "\"parameter problem"),
        (ROUTER, (11, 0), [0; 4], Finding::IcmpError, None, "type 11 code 0"),
    ] {
        both_ways(|full| {
            let mut sim = with(full, Wrong::default());
            sim.asks(2, 40002, SYN, 400_020, 0, false);
            sim.rejects(from, 40002, what, rest);
            let paths = sim.paths();
            let judgement = &of(&paths, 40002).judgement;
            assert_eq!((judgement.finding, judgement.cause), (finding, cause), "{judgement:?}");
            assert!(judgement.says.contains(says), "{}", judgement.says);
            assert_eq!(judgement.proof.len(), 1);
        });
    }
    // A node sends it itself where a rule rejects the request, or the way is too narrow.
    for (what, expected) in [
        ((3, 3), &[Cause::Prohibited, Cause::PortUnreachable][..]),
        ((3, 13), &[Cause::Prohibited]),
        ((3, 4), &[Cause::TooBig]),
    ] {
        let mut sim = with(false, Wrong::default());
        sim.asks(2, 40002, SYN, 400_020, 0, false);
        sim.rejects([192, 168, 122, 11], 40002, what, [0, 0, 5, 0]);
        sim.events.last_mut().unwrap().in_if = None;
        let judgement = of(&sim.paths(), 40002).judgement.clone();
        assert!(judgement.says.starts_with("node1 itself (192.168.122.11) sent "), "{}", judgement.says);
        assert_eq!(fits(&judgement), expected);
    }
    // An error is a fault also where there are replies.
    let mut sim = with(false, Wrong::default());
    sim.connect(2, 40002);
    sim.rejects(ROUTER, 40002, (3, 4), [0, 0, 5, 0]);
    assert_eq!(of(&sim.paths(), 40002).judgement.cause, Some(Cause::TooBig));
}

/// Path MTU discovery is no fault where it has found its way: shorter packets, which the guest has acknowledged.
#[test]
fn too_big_is_a_fault_only_where_nothing_shorter_got_through() {
    const ROUTER: [u8; 4] = [198, 51, 100, 9];
    both_ways(|full| {
        let tried = |rest: &dyn Fn(&mut Sim)| {
            let mut sim = with(full, Wrong::default());
            sim.asks(2, 40002, SYN, 400_020, 0, false);
            sim.replies(40002, SYN | ACK, 500, 400_021);
            sim.sends(2, 40002, 400_021, 1400);
            sim.rejects(ROUTER, 40002, (3, 4), [0, 0, 5, 0]);
            rest(&mut sim);
            of(&sim.paths(), 40002).judgement.clone()
        };
        // In two pieces, and the guest has them.
        let found = tried(&|sim| {
            sim.sends(2, 40002, 400_021, 1200);
            sim.sends(2, 40002, 401_221, 200);
            sim.acknowledges(40002, 501, 401_421);
        });
        assert_eq!((found.finding, found.cause), (Finding::Foreign, None), "{found:?}");
        assert!(!found.is_fault());
        let note = "an ICMP error came back: fragmentation needed, MTU 1280 (type 3 code 4) (node1 spoof #";
        let shorter = "Its sender went on with shorter packets, which arrived";
        assert!(found.also.iter().any(|also| also.starts_with(note) && also.ends_with(shorter)), "{found:?}");
        // The client does not hear it; or the first piece is lost, too.
        for is_lost in [false, true] {
            let lost = tried(&|sim| {
                if is_lost {
                    sim.sends(2, 40002, 400_021, 1200);
                    sim.acknowledges(40002, 501, 400_021);
                } else {
                    sim.sends(2, 40002, 400_021, 1400);
                }
            });
            assert_eq!((lost.finding, lost.cause), (Finding::Rejected, Some(Cause::TooBig)), "{lost:?}");
            assert!(lost.is_fault());
        }
        // Sequence numbers begin anew after the highest.
        let mut sim = with(full, Wrong::default());
        sim.asks(2, 40002, SYN, u32::MAX - 9, 0, false);
        sim.replies(40002, SYN | ACK, 500, u32::MAX - 8);
        sim.rejects(ROUTER, 40002, (3, 4), [0, 0, 5, 0]);
        sim.sends(2, 40002, u32::MAX - 8, 200);
        sim.acknowledges(40002, 501, 191);
        assert_eq!(of(&sim.paths(), 40002).judgement.finding, Finding::Foreign);
    });
}

#[test]
fn a_guest_that_refuses() {
    both_ways(|full| {
        let mut sim = with(full, Wrong::default());
        sim.asks(2, 40002, SYN, 400_020, 0, false);
        sim.replies(40002, RST | ACK, 0, 400_021);
        let paths = sim.paths();
        let judgement = &of(&paths, 40002).judgement;
        assert_eq!((judgement.finding, judgement.cause), (Finding::Rejected, Some(Cause::Reset)));
        // A node that rejects it speaks in the guest's name.
        let mut by_node = with(full, Wrong::default());
        by_node.asks(2, 40002, SYN, 400_020, 0, false);
        by_node.replies(40002, RST | ACK, 0, 400_021);
        by_node.events.last_mut().unwrap().in_if = None;
        by_node.events.last_mut().unwrap().phys_in = None;
        let judgement = of(&by_node.paths(), 40002).judgement.clone();
        assert_eq!((judgement.finding, judgement.cause), (Finding::Rejected, Some(Cause::Prohibited)));
        // A connection that is reset later was there.
        sim.connect(3, 40003);
        sim.replies(40003, RST, 501, 0);
        assert_eq!(of(&sim.paths(), 40003).judgement.finding, Finding::Foreign);
    });
}
