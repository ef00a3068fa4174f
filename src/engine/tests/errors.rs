//! ICMP errors: who gets them, and what they quote.

use super::*;

#[test]
fn errors_about_replies_go_to_the_guest_that_sent_them() {
    let tables = Tables::new(&cluster(), NODE2);
    let at = |kind, about| {
        decide(&tables, Stage::Dnat, Ok(&error(kind, ELSEWHERE, PUBLIC2, about)), &Meta::default())
    };
    for kind in [3, 4, 11, 12] {
        assert_eq!(
            at(kind, "tcp 192.168.122.12:80 > 192.168.122.1:40000"),
            Decision {
                verdict: Verdict::Accept,
                rewrite: Some(Rewrite {
                    side: Side::Destination,
                    to: GUEST.into(),
                    port: None,
                    layers: Layers::Both
                }),
                mark: Some(Mark(2)),
                ct_mark: None,
                reason: Reason::ErrorAboutReply,
                node: Some(NODE2),
                service: Some(ServiceId(0)),
            }
        );
    }
    for (kind, about, reason) in [
        (5, "tcp 192.168.122.12:80 > 192.168.122.1:40000", Reason::Redirect),
        (3, "tcp 192.168.122.12:81 > 192.168.122.1:40000", Reason::NoService),
        (3, "udp 192.168.122.12:80 > 192.168.122.1:40000", Reason::NoService),
        (3, "tcp 192.168.122.11:80 > 192.168.122.1:40000", Reason::NoService),
        (3, "tcp 10.5.5.201:80 > 192.168.122.1:40000", Reason::NoService),
    ] {
        assert_eq!(at(kind, about), Decision::leave(reason), "{about}");
    }
    let elsewhere = error(3, ELSEWHERE, PUBLIC1, "tcp 192.168.122.11:80 > 192.168.122.1:40000");
    assert_eq!(
        decide(&tables, Stage::Dnat, Ok(&elsewhere), &Meta::default()),
        Decision::leave(Reason::NotPublic)
    );
}

#[test]
fn errors_about_requests_show_no_inside_address() {
    let tables = Tables::new(&cluster(), NODE1);
    let request = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
    let tagged = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    let unknown = Meta::default();
    let (by2, by1) = ((NODE2, PUBLIC2), (NODE1, PUBLIC1));
    for (from, meta, (node, public), layers) in [
        (GUEST, tagged, by2, Layers::Both),
        ([10, 5, 5, 77], tagged, by2, Layers::Both),
        (ELSEWHERE, tagged, by2, Layers::Inner),
        (PUBLIC1, tagged, by2, Layers::Inner),
        // The packet did not come far enough for conntrack to know it: this is the entry node.
        (PUBLIC1, unknown, by1, Layers::Inner),
        ([10, 5, 5, 77], unknown, by1, Layers::Both),
    ] {
        let decision = decide(&tables, Stage::Spoof, Ok(&error(11, from, CLIENT, request)), &meta);
        assert_eq!((decision.verdict, decision.reason), (Verdict::Accept, Reason::ErrorAboutRequest));
        assert_eq!(
            decision.rewrite,
            Some(Rewrite { side: Side::Source, to: public.into(), port: None, layers }),
            "{from:?}"
        );
        assert_eq!((decision.node, decision.service), (Some(node), Some(ServiceId(0))));
        assert_eq!((decision.mark, decision.ct_mark), (None, None));
    }
    let at = |kind, from, about, meta: Meta| {
        let decision = decide(&tables, Stage::Spoof, Ok(&error(kind, from, CLIENT, about)), &meta);
        assert_eq!(decision.rewrite, None);
        assert_eq!(decision.service, (about == request).then_some(ServiceId(0)));
        (decision.verdict, decision.reason)
    };
    assert_eq!(at(5, GUEST, request, tagged), (Verdict::Drop, Reason::Redirect));
    assert_eq!(at(5, PUBLIC1, request, unknown), (Verdict::Drop, Reason::Redirect));
    // What a guest began is the business of the kernel's SNAT, and what shows nothing is nobody's.
    let begun = "tcp 192.168.122.1:80 > 10.5.5.201:40000";
    assert_eq!(at(3, GUEST, begun, unknown), (Verdict::Accept, Reason::Unmarked));
    let outside = "tcp 192.168.122.1:80 > 192.168.122.11:40000";
    assert_eq!(at(3, PUBLIC1, outside, tagged), (Verdict::Accept, Reason::NotFromGuest));
    // What cannot be read may show anything.
    let unreadable = decide(&tables, Stage::Spoof, Err(Malformed::Quote), &tagged);
    assert_eq!((unreadable.verdict, unreadable.reason), (Verdict::Drop, Reason::Quote));
}

#[test]
fn what_errors_quote_gets_its_port_back() {
    let about_reply = error(3, ELSEWHERE, PUBLIC2, "tcp 192.168.122.12:8080 > 192.168.122.1:40000");
    let expected = (Reason::ErrorAboutReply, Some("10.5.5.202".to_owned()), Some(80));
    assert_eq!(offered(Stage::Dnat, &about_reply, 0), expected);
    let about_request = error(3, [10, 5, 5, 202], CLIENT, "tcp 192.168.122.1:40000 > 10.5.5.202:80");
    for ct_mark in [0, 2] {
        let expected = (Reason::ErrorAboutRequest, Some("192.168.122.12".to_owned()), Some(8080));
        assert_eq!(offered(Stage::Spoof, &about_request, ct_mark), expected);
    }
}
