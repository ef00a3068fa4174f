//! A thousand nodes, and more.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::conversations::{Joiner, Paths};
use crate::net::Tuple;
use crate::trace::{Event, samples};

/// Each node has a request that nobody answers, from a client and to a guest of its own.
fn joined(nodes: u32, change: impl Fn(&mut Event)) -> Paths {
    let request = samples::events().swap_remove(0);
    let mut joiner = Joiner::default();
    for number in 0..nodes {
        let mut event = Event { node: format!("n{number:06}").into(), ..request.clone() };
        let [_, a, b, c] = number.to_be_bytes();
        for tuple in event.before.iter_mut().chain(&mut event.after) {
            *tuple = Tuple { src: [10, a, b, c].into(), ..*tuple };
        }
        event.after.iter_mut().for_each(|tuple| tuple.dst = [172, a, b, c].into());
        change(&mut event);
        joiner.add(event, true);
    }
    let paths = joiner.finish();
    assert_eq!(paths.conversations.len(), nodes as usize);
    assert!(paths.conversations.iter().all(|one| !one.judgement.finding.is_right()));
    paths
}

/// What this thread has worked, whoever else is at work on the machine.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// With twenty times the nodes and conversations it would be twenty times as much for each if one of them asked all nodes.
#[test]
fn a_conversation_costs_as_much_however_many_nodes_there_are() {
    let each = |nodes: u32| {
        let begun = worked();
        joined(nodes, |_| ());
        (worked() - begun) / nodes
    };
    let (few, many) = (each(1_000), each(20_000));
    assert!(many < few * 4, "{few:?} with a thousand nodes, {many:?} with twenty");
}

#[test]
fn not_every_node_is_named_of_which_something_is_missing() {
    let paths = joined(1_000, |event| (event.lost, event.left_out) = (7, 1));
    for one in &paths.conversations {
        let also = &one.judgement.also;
        assert_eq!(also.len(), 18, "{also:?}");
        assert_eq!(also[0], "the trace of n000000 has lost 7 events; a missing packet may be among them");
        assert_eq!(also[8], "events are missing in 992 more traces, too");
        assert_eq!(also[17], "decisions are left out in 992 more traces, too");
    }
    let few = joined(8, |event| event.lost = 7);
    assert!(few.conversations.iter().all(|one| one.judgement.also.len() == 8));
}
