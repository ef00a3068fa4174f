//! Tags: how the entry node is known, and which tag a flow keeps.

use super::*;

#[test]
fn a_flow_keeps_the_tag_it_has() {
    let inside = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
    let held = |ct_mark| Meta { ct_mark: CtMark::Is(Mark(ct_mark)), ..from_pipe("0e:00:00:00:01:00") };
    let again = at(Stage::Tag, NODE1, inside, held(2));
    assert_eq!((again.reason, again.mark, again.ct_mark), (Reason::AlreadySaved, Some(Mark(2)), None));
    let other = at(Stage::Tag, NODE1, inside, held(1));
    assert_eq!((other.reason, other.node, other.ct_mark), (Reason::MarkConflict, Some(NODE2), None));

    let marked = |ct_mark| Meta { mark: Mark(2), ct_mark: CtMark::Is(Mark(ct_mark)), ..Meta::default() };
    assert_eq!(at(Stage::Save, NODE1, inside, marked(2)).reason, Reason::AlreadySaved);
    let unknown = Meta { mark: Mark(2), ct_mark: CtMark::Another, ..Meta::default() };
    assert_eq!(at(Stage::Save, NODE1, inside, unknown).reason, Reason::MarkConflict);
    let other = at(Stage::Save, NODE1, inside, marked(1));
    assert_eq!((other.reason, other.ct_mark), (Reason::MarkConflict, None));
}

#[test]
fn bits_outside_of_the_mask_are_somebody_elses() {
    let tables = Tables::new(&masked(), NODE2);
    assert_eq!(tables.mask(), Mark(0xff00));
    let foreign = Meta { mark: Mark(0xabcd_1234), ..Meta::default() };
    let request = view("tcp 192.168.122.1:40000 > 192.168.122.12:80");
    let dnat = decide(&tables, Stage::Dnat, Ok(&request), &foreign);
    assert_eq!(dnat.mark, Some(Mark(0xabcd_0234)));
    let inside = view("tcp 192.168.122.1:40000 > 10.5.5.201:80");
    let save = Meta { mark: Mark(0xabcd_0234), ct_mark: CtMark::Is(Mark(0xff)), ..Meta::default() };
    assert_eq!(decide(&tables, Stage::Save, Ok(&inside), &save).ct_mark, Some(Mark(0x200)));
    let from_node1 = "0a:00:00:00:01:00".parse().ok();
    let tag = Meta { from_pipe: true, src_mac: from_node1, ct_mark: CtMark::Is(Mark(0xff)), ..foreign };
    assert_eq!(decide(&tables, Stage::Tag, Ok(&inside), &tag).mark, Some(Mark(0xabcd_0134)));
    let reply = view("tcp 10.5.5.201:80 > 192.168.122.1:40000");
    let spoof = Meta { ct_mark: CtMark::Is(Mark(0xffff_01ff)), ..Meta::default() };
    assert_eq!(decide(&tables, Stage::Spoof, Ok(&reply), &spoof).node, Some(NODE1));
}

#[test]
fn a_tag_may_go_by_the_pipe_or_by_the_code_point() {
    let request = view("tcp 192.168.122.1:40000 > 10.5.5.201:80");
    let by = |tag_by| {
        let mut cluster = cluster();
        cluster.tag_by = tag_by;
        for (node, dscp) in cluster.nodes.iter_mut().zip([8, 16]) {
            node.dscp = Dscp::try_from(dscp).ok();
        }
        Tables::new(&cluster, NODE1)
    };
    let tag = |tables: &Tables, view: &View, meta: Meta| {
        let decision = decide(tables, Stage::Tag, Ok(view), &meta);
        (decision.reason, decision.node, decision.mark, decision.ct_mark)
    };
    let tagged = (Reason::FromNode, Some(NODE2), Some(Mark(2)), Some(Mark(2)));
    // Whose the frame's address is does not matter then.
    let frame = from_pipe("0a:00:00:00:01:00");
    let pipe = by(TagBy::Pipe);
    assert_eq!(tag(&pipe, &request, Meta { pipe_of: Some(NODE2), ..frame }), tagged);
    assert_eq!(tag(&pipe, &request, frame).0, Reason::UnknownPipe);
    let dscp = by(TagBy::Dscp);
    let marked = |number| {
        let mut view = request;
        view.dscp = Dscp::try_from(number).unwrap();
        view
    };
    assert_eq!(tag(&dscp, &marked(16), frame), tagged);
    assert_eq!(tag(&dscp, &marked(24), frame).0, Reason::UnknownDscp);
    let unreadable = decide(&dscp, Stage::Tag, Err(Malformed::NotIp), &frame);
    assert_eq!((unreadable.reason, unreadable.mark), (Reason::NotIp, None));
}

#[test]
fn prefixes_of_several_lengths_are_looked_up() {
    let mut cluster = cluster();
    cluster.nodes[0].mac = "0a:00:00:00:01:00/48".parse().ok();
    cluster.nodes[1].mac = "0a:80:00:00:00:00/9".parse().ok();
    let tables = Tables::new(&cluster, NODE1);
    let node = |mac: &str| tables.node_by_mac(mac.parse().unwrap());
    assert_eq!(node("0a:00:00:00:01:00"), Some(NODE1));
    assert_eq!(node("0a:00:00:00:01:01"), None);
    assert_eq!(node("0a:ff:00:00:01:01"), Some(NODE2));
}

#[test]
fn a_conflict_ends_as_the_cluster_file_says() {
    let inside = view("tcp 192.168.122.1:40000 > 10.5.5.201:80");
    for (on_conflict, verdict, mark, ct_mark) in [
        (OnConflict::Keep, Verdict::Accept, Some(Mark(2)), None),
        (OnConflict::Drop, Verdict::Drop, None, None),
        (OnConflict::Take, Verdict::Accept, Some(Mark(2)), Some(Mark(2))),
    ] {
        let mut cluster = cluster();
        cluster.on_conflict = on_conflict;
        let tables = Tables::new(&cluster, NODE1);
        for held in [CtMark::Is(Mark(1)), CtMark::Another] {
            let tag = Meta { ct_mark: held, ..from_pipe("0e:00:00:00:01:00") };
            let tag = decide(&tables, Stage::Tag, Ok(&inside), &tag);
            let save = Meta { mark: Mark(2), ct_mark: held, ..Meta::default() };
            let save = decide(&tables, Stage::Save, Ok(&inside), &save);
            assert_eq!((tag.reason, save.reason), (Reason::MarkConflict, Reason::MarkConflict));
            assert_eq!((tag.verdict, tag.mark, tag.ct_mark), (verdict, mark, ct_mark), "{on_conflict}");
            assert_eq!((save.verdict, save.mark, save.ct_mark), (verdict, None, ct_mark), "{on_conflict}");
        }
    }
}
