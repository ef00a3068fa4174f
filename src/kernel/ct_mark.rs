//! Whether a verdict sets the ct mark: found out by setting one.
//!
//! The kernel takes the attribute (`NFQA_CT`) without a word also where it does nothing with it, and some kernels have
//! it only in part. So a packet goes through a queue, in a network namespace that nobody else sees and that is gone
//! with its thread: its verdict sets a ct mark, the next packet of the flow must show it, and the third must show that
//! a mask leaves the other bits alone.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use super::tool::{self, Failure, Tool};
use super::{Support, in_scratch_namespace};
use crate::net::{Envelope, Mark, Verdict};
use crate::netlink::expression::Expressions;
use crate::netlink::nfqueue::{self, Changes, Config, FLAG_CONNTRACK, Head, Message};
use crate::netlink::nftables::{self, Batch, Nftables};
use crate::netlink::socket::{Socket, set_loopback_up};
use crate::netlink::sys;

/// What the verdicts set, under which mask, and what the flow must have then.
const STEPS: [(Mark, Mark, Mark); 2] = [
    (Mark(0x1234_0005), Mark::ALL, Mark(0x1234_0005)),
    // Not a bit of the mask is left as it was; not a bit beside it changes.
    (Mark(0x0000_00a0), Mark(0x0000_00ff), Mark(0x1234_00a0)),
];

const QUEUE: u16 = 0;

/// No word of nft's own, as "queue" would be.
const CHAIN: &str = "to-queue";

/// Where the packets go to: nobody is there, and nobody else sends there.
const PORT: u16 = 9;

/// How long a packet may take to come back.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a queue shows ct marks and a verdict sets them (`CONFIG_NETFILTER_NETLINK_GLUE_CT`, kernel module
/// nf_conntrack_netlink). `nft_queue` says how packets get into a queue here.
pub fn ct_mark_by_verdict(nft_queue: bool) -> Support {
    match in_scratch_namespace(move || try_it(nft_queue)) {
        Ok(Ok(support)) => support,
        Ok(Err(failure)) => Support::Unknown(failure.to_string()),
        Err(error) => Support::Unknown(format!("cannot make a network namespace for the test: {error}")),
    }
}

/// What kept the question from being asked.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error(transparent)]
    Rules(#[from] Failure),
}

/// To be called in a network namespace that is thrown away.
fn try_it(nft_queue: bool) -> Result<Support, Unasked> {
    let cannot = |what| move |source| Unasked::System { what, source };
    set_loopback_up().map_err(cannot("set the loopback interface up"))?;

    let socket = Socket::small().map_err(cannot("open a netfilter socket"))?;
    let config = Config { copy: 64, max_len: 16, flags: FLAG_CONNTRACK };
    match socket.bind(QUEUE, config) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Ok(Support::No("a queue cannot show conntrack's entries: EOPNOTSUPP".to_owned()));
        }
        Err(error) => return Err(cannot("take a queue")(error)),
    }
    queue_what_is_sent(nft_queue)?;
    socket.limit_waiting(PATIENCE).map_err(cannot("set a time limit"))?;

    // The source port makes it one flow.
    let sender = UdpSocket::bind("127.0.0.1:0").map_err(cannot("open a socket"))?;
    let mut before = Mark::ZERO;
    for (mark, mask, after) in STEPS {
        let envelope = show(&socket, &sender)?;
        if let Some(no) = differs(envelope, before) {
            return Ok(no);
        }
        let changes = Changes { ct_mark: Some((mark, mask)), ..Changes::default() };
        let mut verdict = Head::new();
        verdict.fill(QUEUE, envelope.id, Verdict::Accept, changes);
        socket.send_one(verdict.after(0)).map_err(cannot("send a verdict"))?;
        before = after;
    }
    Ok(differs(show(&socket, &sender)?, before).unwrap_or(Support::Yes))
}

/// Both a rule that queues and one that makes conntrack look at packets here: it does so only where it is asked for.
fn queue_what_is_sent(nft_queue: bool) -> Result<(), Unasked> {
    let queue = if nft_queue { format!("queue num {QUEUE}") } else { format!("jump {CHAIN}") };
    let rules = format!(
        "create table ip probe\ntable ip probe {{\n\tchain {CHAIN} {{\n\t}}\n\tchain sent {{\n\t\ttype filter hook output \
         priority 0\n\t\tct state invalid drop\n\t\tudp dport {PORT} {queue}\n\t}}\n}}\n"
    );
    tool::feed(Tool::Nft, &["--file", "-"], &rules)?;
    if !nft_queue {
        let mut target = Expressions::default();
        target.target_nfqueue(QUEUE, false);
        let mut batch = Batch::new();
        batch.rule(nftables::family("ip"), "probe", CHAIN, &target);
        let cannot = |source| Unasked::System { what: "write a rule", source };
        Nftables::open().and_then(|nft| nft.commit(batch)).map_err(cannot)?;
    }
    Ok(())
}

/// Sends a packet of the flow and tells what the queue shows of it.
fn show(socket: &Socket, sender: &UdpSocket) -> Result<Envelope, Unasked> {
    let cannot = |what| move |source| Unasked::System { what, source };
    sender.send_to(b"ct mark?", ("127.0.0.1", PORT)).map_err(cannot("send a packet"))?;
    let mut buffer = [0; 128];
    loop {
        let bytes = sys::as_bytes(&mut buffer);
        let len = socket.receive_one(bytes).map_err(cannot("receive the packet from the queue"))?;
        let mut envelope = Envelope::default();
        if let Ok(Message::Packet(_)) = nfqueue::read(&bytes[..len], &mut envelope) {
            return Ok(envelope);
        }
    }
}

fn differs(envelope: Envelope, expected: Mark) -> Option<Support> {
    match envelope.ct_mark {
        None => Some(Support::No("a queue does not show conntrack's entries".to_owned())),
        Some(mark) if mark != expected => Some(Support::No(format!(
            "a verdict should have set the ct mark to {expected}, but it is {mark}"
        ))),
        Some(_) => None,
    }
}
