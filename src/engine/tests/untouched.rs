//! What is left as it is, what is dropped, and what makes no difference.

use super::*;

#[test]
fn what_is_not_asked_for_is_left_alone() {
    let cases = [
        (Stage::Dnat, "tcp 192.168.122.1:40000 > 192.168.122.11:81", Meta::default(), Reason::NoService),
        (Stage::Dnat, "udp 192.168.122.1:40000 > 192.168.122.11:80", Meta::default(), Reason::NoService),
        (Stage::Dnat, "tcp 192.168.122.1:40000 > 192.168.122.12:80", Meta::default(), Reason::NotPublic),
        (Stage::Tag, "tcp 192.168.122.1:1 > 10.5.5.201:80", Meta::default(), Reason::NotFromPipe),
        (
            Stage::Tag,
            "tcp 192.168.122.1:1 > 10.5.6.201:80",
            from_pipe("0e:00:00:00:00:01"),
            Reason::NotToGuest,
        ),
        (
            Stage::Tag,
            "tcp 192.168.122.1:1 > 10.5.5.201:80",
            from_pipe("0f:00:00:00:00:01"),
            Reason::UnknownMac,
        ),
        (
            Stage::Tag,
            "tcp 192.168.122.1:1 > 10.5.5.201:80",
            Meta { from_pipe: true, ..Meta::default() },
            Reason::NoMac,
        ),
        (Stage::Save, "tcp 192.168.122.1:1 > 10.5.5.201:80", Meta::default(), Reason::Unmarked),
        (
            Stage::Save,
            "tcp 192.168.122.1:1 > 10.5.5.201:80",
            Meta { mark: Mark(9), ..Meta::default() },
            Reason::UnknownTag,
        ),
        (Stage::Spoof, "tcp 10.5.5.201:40000 > 192.168.122.1:80", Meta::default(), Reason::Unmarked),
        (
            Stage::Spoof,
            "tcp 10.5.5.201:40000 > 192.168.122.1:80",
            Meta { ct_mark: CtMark::Is(Mark(9)), ..Meta::default() },
            Reason::UnknownTag,
        ),
        (
            Stage::Spoof,
            "tcp 192.168.122.11:1 > 192.168.122.1:80",
            Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() },
            Reason::NotFromGuest,
        ),
    ];
    for (stage, tuple, meta, reason) in cases {
        let decision = at(stage, NODE1, tuple, meta);
        assert_eq!(decision.reason, reason, "{stage} {tuple}");
        assert_eq!((decision.verdict, decision.rewrite), (Verdict::Accept, None), "{stage} {tuple}");
        assert_eq!((decision.mark, decision.ct_mark), (None, None), "{stage} {tuple}");
    }
}

#[test]
fn what_is_ours_and_cannot_be_translated_is_dropped() {
    let tables = Tables::new(&cluster(), NODE1);
    let reply = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    for malformed in [Malformed::IpLength, Malformed::TransportHeader] {
        let decision = decide(&tables, Stage::Spoof, Err(malformed), &reply);
        assert_eq!((decision.verdict, decision.reason), (Verdict::Drop, malformed.into()));
    }
    let request = view("tcp 192.168.122.1:40000 > 192.168.122.11:80");
    let refused = decide(&tables, Stage::Dnat, Ok(&request), &Meta::default()).refused(Refused::Cut);
    assert_eq!((refused.verdict, refused.reason), (Verdict::Drop, Reason::Cut));
    assert_eq!((refused.rewrite, refused.mark, refused.service), (None, None, Some(ServiceId(0))));
    let tag = at(Stage::Tag, NODE1, "tcp 192.168.122.1:1 > 10.5.5.201:80", from_pipe("0e:00:00:00:01:00"));
    let refused = tag.refused(Refused::Family);
    assert_eq!((tag.ct_mark, refused.ct_mark), (Some(Mark(2)), None), "nor does the flow get a tag");
    assert_eq!((refused.verdict, refused.reason), (Verdict::Drop, Reason::Family));
}

#[test]
fn what_cannot_be_read_and_is_not_ours_goes_on() {
    let tables = Tables::new(&cluster(), NODE1);
    let bad = Err(Malformed::IpHeader);
    let dnat = decide(&tables, Stage::Dnat, bad, &Meta::default());
    assert_eq!((dnat.verdict, dnat.reason), (Verdict::Accept, Reason::IpHeader));
    // The frame tells the node, whatever is in it.
    let tag = decide(&tables, Stage::Tag, bad, &from_pipe("0e:00:00:00:01:00"));
    assert_eq!((tag.reason, tag.ct_mark), (Reason::FromNode, Some(Mark(2))));
}

#[test]
fn a_later_fragment_is_spoofed_by_address_alone_and_has_no_service() {
    let tables = Tables::new(&cluster(), NODE1);
    let mut later = view("tcp 192.168.122.1:40000 > 192.168.122.11:80");
    (later.fragment, later.tuple.ports) = (Fragment::Later, None);
    assert_eq!(decide(&tables, Stage::Dnat, Ok(&later), &Meta::default()).reason, Reason::Fragment);
    (later.tuple.src, later.tuple.dst) = ([10, 5, 5, 201].into(), [192, 168, 122, 1].into());
    let reply = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    assert_eq!(decide(&tables, Stage::Spoof, Ok(&later), &reply).reason, Reason::EntryNode);
}

/// Opening, simultaneous open, data, reset: what a TCP packet means is conntrack's to know.
#[test]
fn no_tcp_flags_make_a_difference() {
    let ways = [
        (Stage::Dnat, "tcp 192.168.122.1:40000 > 192.168.122.11:80", Mark::ZERO, Reason::Service),
        (Stage::Spoof, "tcp 10.5.5.201:80 > 192.168.122.1:40000", Mark(2), Reason::EntryNode),
    ];
    for (stage, tuple, ct_mark, reason) in ways {
        let meta = Meta { ct_mark: CtMark::Is(ct_mark), ..Meta::default() };
        let first = at(stage, NODE1, tuple, meta);
        assert_eq!(first.reason, reason);
        for flags in 0..=u8::MAX {
            let mut bytes = bytes_of(tuple);
            bytes[33] = flags;
            let view = View::parse(&bytes, bytes.len()).unwrap();
            assert_eq!(view.tcp.map(|tcp| tcp.0), Some(flags));
            assert_eq!(
                decide(&Tables::new(&cluster(), NODE1), stage, Ok(&view), &meta),
                first,
                "{flags:#04x}"
            );
        }
    }
}
