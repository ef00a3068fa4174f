//! The messages of nfnetlink_queue: packets from the kernel, verdicts and configuration to it.
//!
//! Layouts and numbers: include/uapi/linux/netlink.h, nfnetlink.h, nfnetlink_queue.h, nfnetlink_conntrack.h.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::attribute::{Attributes, HEADER, NESTED, be32, padded, put, put_header};
use super::sys::words_as_bytes;
use crate::net::{Checksum, CtState, Envelope, Mac, Mark, Verdict};

const NLMSG_HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, and a number in network byte order, here the queue's.
const NFGEN_HEADER: usize = 4;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

const SUBSYSTEM_QUEUE: u16 = 3 << 8;
const MSG_PACKET: u16 = SUBSYSTEM_QUEUE;
const MSG_VERDICT: u16 = SUBSYSTEM_QUEUE | 1;
const MSG_CONFIG: u16 = SUBSYSTEM_QUEUE | 2;
const MSG_VERDICT_BATCH: u16 = SUBSYSTEM_QUEUE | 3;

/// `NF_REPEAT` (include/uapi/linux/netfilter.h): the packet goes through the chain again that queued it.
const REPEAT: u32 = 4;
/// The sequence number of messages whose error nobody waits for. All others have zero.
const WHATEVER_COMES_OF_IT: u32 = 0x00d0_0bad;

const NFQA_PACKET_HDR: u16 = 1;
const NFQA_VERDICT_HDR: u16 = 2;
const NFQA_MARK: u16 = 3;
const NFQA_TIMESTAMP: u16 = 4;
const NFQA_IFINDEX_INDEV: u16 = 5;
const NFQA_IFINDEX_OUTDEV: u16 = 6;
const NFQA_IFINDEX_PHYSINDEV: u16 = 7;
const NFQA_IFINDEX_PHYSOUTDEV: u16 = 8;
const NFQA_HWADDR: u16 = 9;
const NFQA_PAYLOAD: u16 = 10;
const NFQA_CT: u16 = 11;
const NFQA_CT_INFO: u16 = 12;
const NFQA_CAP_LEN: u16 = 13;
const NFQA_SKB_INFO: u16 = 14;

const CTA_MARK: u16 = 8;
const CTA_MARK_MASK: u16 = 21;

const SKB_CSUM_NOT_READY: u32 = 1;
const SKB_GSO: u32 = 2;

const NFQA_CFG_CMD: u16 = 1;
const NFQA_CFG_PARAMS: u16 = 2;
const NFQA_CFG_QUEUE_MAXLEN: u16 = 3;
const NFQA_CFG_MASK: u16 = 4;
const NFQA_CFG_FLAGS: u16 = 5;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// Packets come as they are: unsegmented, with checksums that hardware would have finished.
pub(crate) const FLAG_GSO: u32 = 1 << 2;

/// Packets that find no room are accepted, and not dropped.
pub(crate) const FLAG_FAIL_OPEN: u32 = 1 << 0;

/// Packets come with conntrack's entry of their flow. Only where the kernel can (`NETFILTER_NETLINK_GLUE_CT`).
pub(crate) const FLAG_CONNTRACK: u32 = 1 << 1;

/// The most of a packet that the kernel hands over, in bytes (`NFQNL_MAX_COPY_RANGE`). Longer packets are cut.
pub(crate) const COPY_WHOLE: u32 = 0xffff - HEADER as u32;

/// The longest [`Head`].
pub(crate) const VERDICT_MAX: usize = NLMSG_HEADER + NFGEN_HEADER + 12 + 8 + 20 + HEADER;

/// What a datagram from the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A packet that waits: the envelope has been filled in. Where in the datagram it is.
    Packet(Range<usize>),
    /// The answer to something we sent: an errno, zero for "done".
    Answer(i32),
    /// A message of no interest.
    Other,
}

/// A message that is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the message that a datagram holds; if it is a packet's, into `envelope`. The kernel puts one into each; more would be passed over.
#[inline]
pub(crate) fn read(datagram: &[u8], envelope: &mut Envelope) -> Result<Message, Malformed> {
    let header: &[u8; NLMSG_HEADER] = datagram.first_chunk().ok_or(Malformed)?;
    let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let message = datagram.get(..len).filter(|_| len >= NLMSG_HEADER).ok_or(Malformed)?;
    match kind {
        MSG_PACKET => read_packet(message, envelope).map(Message::Packet),
        // About a message that may come too late, and says so by its number.
        NLMSG_ERROR if header[8..12] == WHATEVER_COMES_OF_IT.to_ne_bytes() => Ok(Message::Other),
        NLMSG_ERROR => {
            let errno = message.get(NLMSG_HEADER..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
            Ok(Message::Answer(i32::from_ne_bytes(*errno).wrapping_neg()))
        }
        _ => Ok(Message::Other),
    }
}

#[inline(never)]
fn read_packet(message: &[u8], envelope: &mut Envelope) -> Result<Range<usize>, Malformed> {
    let headers: &[u8; NLMSG_HEADER + NFGEN_HEADER] = message.first_chunk().ok_or(Malformed)?;
    let [.., high, low] = *headers;
    *envelope = Envelope { queue: u16::from_be_bytes([high, low]), ..Envelope::default() };
    let mut payload = 0..0;
    let mut has_header = false;
    for (kind, value) in Attributes::new(&message[headers.len()..]) {
        match kind {
            NFQA_PACKET_HDR => {
                envelope.id = be32(value).ok_or(Malformed)?;
                has_header = true;
            }
            NFQA_MARK => envelope.mark = Mark(be32(value).ok_or(Malformed)?),
            NFQA_IFINDEX_INDEV => envelope.in_if = be32(value),
            NFQA_IFINDEX_OUTDEV => envelope.out_if = be32(value),
            NFQA_IFINDEX_PHYSINDEV => envelope.phys_in = be32(value),
            NFQA_IFINDEX_PHYSOUTDEV => envelope.phys_out = be32(value),
            // Length, padding, eight bytes: only Ethernet's length is an address that we know.
            NFQA_HWADDR => {
                if let Some([0, 6, _, _, mac @ ..]) = value.first_chunk::<10>() {
                    envelope.src_mac = Some(Mac(*mac));
                }
            }
            NFQA_CT => {
                let mark = Attributes::new(value).find(|(kind, _)| *kind == CTA_MARK);
                // An entry without the attribute has the mark zero.
                envelope.ct_mark = Some(Mark(mark.and_then(|(_, value)| be32(value)).unwrap_or(0)));
            }
            NFQA_CT_INFO => envelope.ct_state = be32(value).and_then(CtState::from_number),
            NFQA_TIMESTAMP => envelope.received = timestamp(value),
            NFQA_CAP_LEN => envelope.cut_from = be32(value),
            NFQA_SKB_INFO => {
                let info = be32(value).unwrap_or(0);
                envelope.gso = info & SKB_GSO != 0;
                if info & SKB_CSUM_NOT_READY != 0 {
                    envelope.checksum = Checksum::Partial;
                }
            }
            NFQA_PAYLOAD => {
                let at = value.as_ptr().addr() - message.as_ptr().addr();
                payload = at..at + value.len();
            }
            _ => {}
        }
    }
    if has_header { Ok(payload) } else { Err(Malformed) }
}

/// `struct nfqnl_msg_packet_timestamp`: seconds and microseconds, 64 bits each, in network byte order.
fn timestamp(value: &[u8]) -> Option<SystemTime> {
    let (seconds, rest) = value.split_first_chunk()?;
    let seconds = Duration::from_secs(u64::from_be_bytes(*seconds));
    let micros = Duration::from_micros(u64::from_be_bytes(*rest.first_chunk()?));
    SystemTime::UNIX_EPOCH.checked_add(seconds.checked_add(micros)?)
}

/// Appends a message as the kernel sends it for a packet of these bytes; [`read`] reads it.
pub(crate) fn put_packet(out: &mut Vec<u8>, packet: &Envelope, bytes: &[u8]) {
    let start = out.len();
    put_headers(out, MSG_PACKET, 0, packet.queue);
    let [a, b, c, d] = packet.id.to_be_bytes();
    put_header(out, NFQA_PACKET_HDR, 7);
    // EtherType and hook: nobody asks for them. One byte more is padding.
    out.extend_from_slice(&[a, b, c, d, 8, 0, 0, 0]);
    let mut number = |kind, value: Option<u32>| {
        if let Some(value) = value {
            put(out, kind, &value.to_be_bytes());
        }
    };
    number(NFQA_MARK, (!packet.mark.is_zero()).then_some(packet.mark.0));
    number(NFQA_IFINDEX_INDEV, packet.in_if);
    number(NFQA_IFINDEX_OUTDEV, packet.out_if);
    number(NFQA_IFINDEX_PHYSINDEV, packet.phys_in);
    number(NFQA_IFINDEX_PHYSOUTDEV, packet.phys_out);
    number(NFQA_CAP_LEN, packet.cut_from);
    number(NFQA_SKB_INFO, (packet.checksum == Checksum::Partial).then_some(SKB_CSUM_NOT_READY));
    if let Some(Mac([a, b, c, d, e, f])) = packet.src_mac {
        put(out, NFQA_HWADDR, &[0, 6, 0, 0, a, b, c, d, e, f, 0, 0]);
    }
    put(out, NFQA_PAYLOAD, bytes);
    set_length(out, start);
}

/// What a verdict changes beside the packet's fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The new packet mark.
    pub(crate) mark: Option<Mark>,
    /// Bits of the ct mark, and which.
    pub(crate) ct_mark: Option<(Mark, Mark)>,
    /// The length of the packet that is sent back; its bytes follow the message, padded.
    pub(crate) payload: Option<usize>,
}

/// A verdict as a message, less the packet that is sent back. Made once, then filled in again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Everything in netlink is made of 32-bit words. The first is the padding of what goes before the message; what
    /// all verdicts have in common is there already.
    words: [u32; 1 + VERDICT_MAX / 4],
    /// How many words there are, with the first.
    count: usize,
}

/// The words of a verdict's headers: netlink header, netfilter header, the attribute of the verdict.
const HEAD_WORDS: usize = (NLMSG_HEADER + NFGEN_HEADER + HEADER + 8) / 4;

/// Two fields of 16 bits in host byte order.
const fn halves(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The header of an attribute.
const fn header(kind: u16, len: usize) -> u32 {
    halves((HEADER + len) as u16, kind)
}

impl Head {
    pub(crate) fn new() -> Self {
        let mut words = [0; 1 + VERDICT_MAX / 4];
        words[2] = halves(MSG_VERDICT, NLM_F_REQUEST);
        words[6] = header(NFQA_VERDICT_HDR, 8);
        Self { words, count: 1 + HEAD_WORDS }
    }

    /// Makes it the verdict on a packet. No acknowledgement is asked for; the kernel answers if something was wrong.
    #[inline]
    pub(crate) fn fill(&mut self, queue: u16, id: u32, verdict: Verdict, changes: Changes) {
        self.words[5] = u32::from(queue).to_be();
        // The upper bits of an accept must be zero: with any of them set it would act as NF_STOP.
        self.words[7] = match verdict {
            Verdict::Drop => 0u32,
            Verdict::Accept => 1,
        }
        .to_be();
        self.words[8] = id.to_be();
        self.count = 1 + HEAD_WORDS;
        if let Some(mark) = changes.mark {
            self.put([header(NFQA_MARK, 4), mark.0.to_be()]);
        }
        if let Some((mark, mask)) = changes.ct_mark {
            self.put([header(NFQA_CT | NESTED, 2 * (HEADER + 4))]);
            self.put([header(CTA_MARK, 4), mark.0.to_be()]);
            self.put([header(CTA_MARK_MASK, 4), mask.0.to_be()]);
        }
        let mut more = 0;
        if let Some(len) = changes.payload {
            self.put([header(NFQA_PAYLOAD, len)]);
            more = len;
        }
        self.words[1] = (4 * (self.count - 1) + more) as u32;
    }

    /// The message, after as much padding as what goes before it lacks to a multiple of four.
    #[inline]
    pub(crate) fn after(&self, len: usize) -> &[u8] {
        let padding = padded(len) - len;
        words_as_bytes(&self.words).get(4 - padding..4 * self.count).unwrap_or_default()
    }

    /// The number of the queue, and of the packet in it.
    pub(crate) fn packet(&self) -> (u16, u32) {
        (u32::from_be(self.words[5]) as u16, u32::from_be(self.words[8]))
    }

    #[inline]
    fn put<const N: usize>(&mut self, words: [u32; N]) {
        let end = self.count + N;
        if let Some(place) = self.words.get_mut(self.count..end) {
            place.copy_from_slice(&words);
            self.count = end;
        }
    }
}

/// A message that sends packets of a queue, that wait for a verdict, through the rules again: all whose numbers are at most `up_to`, by
/// the kernel's way to compare (`nfqnl_recv_verdict_batch()`: the distance is taken as signed).
///
/// There is no harm in it if none of them waits any more: the kernel's error is passed over by [`read`].
pub(crate) fn repeat(queue: u16, up_to: u32) -> Vec<u8> {
    of_verdict(MSG_VERDICT_BATCH, queue, REPEAT, up_to)
}

/// A message that drops one packet of a queue, if it waits still. An error is passed over by [`read`].
pub(crate) fn drop_one(queue: u16, id: u32) -> Vec<u8> {
    of_verdict(MSG_VERDICT, queue, 0, id)
}

fn of_verdict(kind: u16, queue: u16, verdict: u32, id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_headers(&mut out, kind, NLM_F_REQUEST, queue);
    out[8..12].copy_from_slice(&WHATEVER_COMES_OF_IT.to_ne_bytes());
    let ([a, b, c, d], [e, f, g, h]) = (verdict.to_be_bytes(), id.to_be_bytes());
    put(&mut out, NFQA_VERDICT_HDR, &[a, b, c, d, e, f, g, h]);
    set_length(&mut out, 0);
    out
}

/// How a queue is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// How many bytes of a packet to hand over.
    pub(crate) copy: u32,
    /// How many packets may wait.
    pub(crate) max_len: u32,
    /// The flags that are set; all others that we know are cleared.
    pub(crate) flags: u32,
}

/// Appends the message that takes a queue and sets it up.
///
/// All in one: between a bind and its parameters the kernel would drop what comes.
pub(crate) fn put_bind(out: &mut Vec<u8>, queue: u16, config: Config) {
    let start = out.len();
    put_headers(out, MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, queue);
    put(out, NFQA_CFG_CMD, &[CMD_BIND, 0, 0, 0]);
    let [a, b, c, d] = config.copy.to_be_bytes();
    // Five bytes by the header file's packed struct; three more are padding.
    put_header(out, NFQA_CFG_PARAMS, 5);
    out.extend_from_slice(&[a, b, c, d, COPY_PACKET, 0, 0, 0]);
    put(out, NFQA_CFG_QUEUE_MAXLEN, &config.max_len.to_be_bytes());
    put(out, NFQA_CFG_MASK, &(FLAG_GSO | FLAG_CONNTRACK | FLAG_FAIL_OPEN).to_be_bytes());
    put(out, NFQA_CFG_FLAGS, &config.flags.to_be_bytes());
    set_length(out, start);
}

/// A message that changes how many packets may wait in a queue. It is for the socket that the queue belongs to; an error is passed over
/// by [`read`], and there is no answer if all is well.
pub(crate) fn set_length_of(queue: u16, max_len: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_headers(&mut out, MSG_CONFIG, NLM_F_REQUEST, queue);
    out[8..12].copy_from_slice(&WHATEVER_COMES_OF_IT.to_ne_bytes());
    put(&mut out, NFQA_CFG_QUEUE_MAXLEN, &max_len.to_be_bytes());
    set_length(&mut out, 0);
    out
}

fn put_headers(out: &mut Vec<u8>, kind: u16, flags: u16, queue: u16) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port id: the kernel fills in ours.
    out.extend_from_slice(&[0; 8]);
    // Family and version unspecified.
    let [high, low] = queue.to_be_bytes();
    out.extend_from_slice(&[0, 0, high, low]);
}

fn set_length(out: &mut [u8], start: usize) {
    let len = (out.len() - start) as u32;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&len.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet_message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        put_headers(&mut out, MSG_PACKET, 0, 103);
        for (kind, value) in attributes {
            put(&mut out, *kind, value);
            out.resize(padded(out.len()), 0);
        }
        set_length(&mut out, 0);
        out
    }

    fn read_any(datagram: &[u8]) -> Result<Message, Malformed> {
        read(datagram, &mut Envelope::default())
    }

    #[test]
    fn a_packet_is_read() {
        let mac = [0, 6, 0, 0, 0x0e, 0, 0, 0, 1, 0, 0, 0];
        let mut ct = Vec::new();
        put(&mut ct, 3, &[0; 4]);
        put(&mut ct, CTA_MARK, &2u32.to_be_bytes());
        let message = packet_message(&[
            (NFQA_PACKET_HDR, &[0, 1, 0, 7, 8, 0, 0]),
            (NFQA_MARK, &[0, 0, 0, 2]),
            (NFQA_IFINDEX_INDEV, &[0, 0, 0, 3]),
            (NFQA_IFINDEX_PHYSINDEV, &[0, 0, 0, 4]),
            (NFQA_HWADDR, &mac),
            (NFQA_CT | NESTED, &ct),
            (NFQA_CAP_LEN, &[0, 0, 255, 255]),
            (NFQA_SKB_INFO, &[0, 0, 0, 3]),
            (NFQA_CT_INFO, &[0, 0, 0, 2]),
            (NFQA_TIMESTAMP, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]),
            (NFQA_PAYLOAD, b"odd"),
        ]);
        let mut envelope = Envelope { mark: Mark(9), cut_from: Some(9), ..Envelope::default() };
        let Message::Packet(payload) = read(&message, &mut envelope).unwrap() else { panic!() };
        assert_eq!(&message[payload], b"odd");
        let expected = Envelope {
            queue: 103,
            id: 0x1_0007,
            mark: Mark(2),
            in_if: Some(3),
            phys_in: Some(4),
            src_mac: Some(Mac([0x0e, 0, 0, 0, 1, 0])),
            ct_mark: Some(Mark(2)),
            cut_from: Some(65535),
            checksum: Checksum::Partial,
            gso: true,
            received: SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(7_000_009)),
            ct_state: Some(CtState::New),
            ..Envelope::default()
        };
        assert_eq!(envelope, expected);
    }

    #[test]
    fn golden_bytes_of_a_verdict() {
        let changes = Changes { mark: Some(Mark(2)), ct_mark: Some((Mark(2), Mark(0xff))), payload: Some(5) };
        let mut head = Head::new();
        head.fill(100, 7, Verdict::Accept, changes);
        let out = head.after(8);
        let expected = [
            &69u32.to_ne_bytes()[..],
            &0x0301u16.to_ne_bytes(),
            &1u16.to_ne_bytes(),
            &[0; 8],
            &[0, 0, 0, 100],
            &12u16.to_ne_bytes(),
            &2u16.to_ne_bytes(),
            &[0, 0, 0, 1, 0, 0, 0, 7],
            &8u16.to_ne_bytes(),
            &3u16.to_ne_bytes(),
            &[0, 0, 0, 2],
            &20u16.to_ne_bytes(),
            &0x800bu16.to_ne_bytes(),
            &8u16.to_ne_bytes(),
            &8u16.to_ne_bytes(),
            &[0, 0, 0, 2],
            &8u16.to_ne_bytes(),
            &21u16.to_ne_bytes(),
            &[0, 0, 0, 0xff],
            &9u16.to_ne_bytes(),
            &10u16.to_ne_bytes(),
        ]
        .concat();
        assert_eq!(out, expected);
        assert_eq!(out.len(), VERDICT_MAX);
        assert_eq!(head.packet(), (100, 7));
        for (before, padding) in [(9, 3), (10, 2), (11, 1), (12, 0)] {
            assert_eq!(head.after(before), [&[0; 3][..padding], out].concat());
        }
        let mut again = head;
        again.fill(1, 2, Verdict::Drop, Changes::default());
        let mut anew = Head::new();
        anew.fill(1, 2, Verdict::Drop, Changes::default());
        assert_eq!(again.after(0), anew.after(0), "nothing is left of the verdict before");
    }

    #[test]
    fn an_error_is_an_errno() {
        let mut message = 36u32.to_ne_bytes().to_vec();
        message.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message.resize(16, 0);
        message.extend_from_slice(&(-2i32).to_ne_bytes());
        message.resize(36, 0);
        assert_eq!(read_any(&message), Ok(Message::Answer(2)));
        assert_eq!(read_any(&message[..18]), Err(Malformed));
    }

    #[test]
    fn what_is_not_a_packet_is_malformed() {
        assert_eq!(read_any(&[]), Err(Malformed));
        assert_eq!(read_any(&packet_message(&[])), Err(Malformed), "no packet header");
        assert_eq!(read_any(&packet_message(&[(NFQA_PACKET_HDR, &[0, 0])])), Err(Malformed));
        let mut short = packet_message(&[(NFQA_PACKET_HDR, &[0, 0, 0, 1, 8, 0, 0])]);
        short[0] = 15;
        assert_eq!(read_any(&short), Err(Malformed), "a length within the header");
        short[0] = 200;
        assert_eq!(read_any(&short), Err(Malformed), "a length beyond the datagram");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0usize..3) {
            let mut bytes = bytes;
            // Mostly what has the form of a message, so that its inside is reached.
            if kind > 0 && bytes.len() >= 6 {
                let len = bytes.len() as u32;
                bytes[..4].copy_from_slice(&len.to_ne_bytes());
                bytes[4..6].copy_from_slice(&[MSG_PACKET, NLMSG_ERROR][kind - 1].to_ne_bytes());
            }
            if let Ok(Message::Packet(payload)) = read(&bytes, &mut Envelope::default()) {
                prop_assert!(bytes.get(payload).is_some());
            }
        }
    }
}
