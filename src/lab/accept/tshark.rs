//! A second opinion on every capture: tshark reads the same file, and has to see the same in each frame. The judge of the other claims
//! is the reader that dunnat itself has; what both overlook, or misread in the same way, would be no fault of either's.

use std::process::Command;

use super::Seen;
use super::claim::Claim;
use crate::lab::{Capture, Error, Frame, run};

/// What is asked for, of each frame. Of an ICMP error and the packet that it quotes there are two values of most.
const FIELDS: [&str; 14] = [
    "frame.number",
    "eth.src",
    "eth.dst",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "tcp.checksum",
    "udp.checksum",
    "icmpv6.checksum",
];
/// The state of checksums: 0 bad, 1 good, 2 not verified, 3 not present.
const STATES: [&str; 3] = ["tcp.checksum.status", "udp.checksum.status", "icmpv6.checksum.status"];

/// Holds tshark's view of all captures against ours.
pub(super) fn judge(seen: &Seen) -> Claim {
    let mut claim = Claim::new(None, "tshark sees the same addresses, ports and checksums in every frame");
    for capture in seen.all() {
        match read_by_tshark(capture) {
            Ok(lines) => compare(&mut claim, capture, &lines),
            Err(error) => claim.fault(format!("{}: {error}", capture.name)),
        }
    }
    claim
}

fn read_by_tshark(capture: &Capture) -> Result<String, Error> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-n").arg("-r").arg(&capture.path).args([
        "-T",
        "fields",
        "-E",
        "separator=;",
        "-E",
        "aggregator=,",
    ]);
    // Each frame by itself, and checksums verified.
    for setting in [
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
    ] {
        tshark.args(["-o", setting]);
    }
    for field in FIELDS.iter().chain(&STATES) {
        tshark.args(["-e", field]);
    }
    // Its settings are nobody's but the capture's folder's.
    tshark.env("HOME", capture.path.parent().unwrap_or(&capture.path)).env("LC_ALL", "C");
    run(&mut tshark)
}

fn compare(claim: &mut Claim, capture: &Capture, lines: &str) {
    let theirs: Vec<&str> = lines.lines().collect();
    claim.must_be(
        format_args!("{}: frames that tshark reads", capture.name),
        theirs.len(),
        capture.frames.len(),
    );
    let (mut differ, mut verified) = (0, 0);
    for (frame, line) in capture.frames.iter().zip(&theirs) {
        let line: Vec<&str> = line.split(';').collect();
        let (known, states) = line.split_at(line.len().min(FIELDS.len()));
        let ours = fields(frame);
        let same = known.len() == ours.len() && known.iter().zip(&ours).all(|(their, our)| their == our);
        let state = states.iter().find_map(|state| match state.split(',').next() {
            Some("1" | "Good") => Some(true),
            Some("0" | "Bad") => Some(false),
            _ => None,
        });
        let right = frame.checksum_is_right();
        // A packet inside of an error is shown first by nobody; whole ones alone are verified by both.
        let agree = state.is_none() || right.is_none() || frame.error().is_some() || state == right;
        verified += usize::from(state.is_some() && right.is_some());
        if !(same && agree) {
            differ += 1;
            if differ <= 3 {
                claim.fault(format!(
                    "{}: frame {}: tshark has {} (checksum right: {state:?}), we have {} ({right:?})",
                    capture.name,
                    frame.number,
                    known.join(";"),
                    ours.join(";")
                ));
            }
        }
    }
    claim.must_be(format_args!("{}: frames that tshark reads differently", capture.name), differ, 0);
    claim.proof(
        "frames",
        format!("{}: {} equal, {verified} checksums verified by both", capture.name, capture.frames.len()),
    );
}

/// What tshark should say of a frame, in the order of [`FIELDS`].
fn fields(frame: &Frame) -> Vec<String> {
    let mut all = vec![String::new(); FIELDS.len()];
    all[0] = frame.number.to_string();
    all[1] = frame.src.to_string();
    all[2] = frame.dst.to_string();
    let Some(view) = frame.view else { return all };
    let mut put = |place: usize, value: String| {
        let all = &mut all[place];
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&value);
    };
    let sum = |at: Option<usize>| Some(u16::from_be_bytes(*frame.bytes.get(at?..)?.first_chunk()?));
    let quoted = view.error.map(|error| (error.about, sum(error.checksum_at())));
    for (tuple, sum) in [(view.tuple, frame.checksum())].into_iter().chain(quoted) {
        let first = if tuple.src.is_ipv4() { 3 } else { 5 };
        put(first, tuple.src.to_string());
        put(first + 1, tuple.dst.to_string());
        let (ports, at) = match tuple.proto.0 {
            6 => (Some(7), Some(11)),
            17 => (Some(9), Some(12)),
            58 => (None, Some(13)),
            _ => (None, None),
        };
        if let (Some(at), Some((from, to))) = (ports, tuple.ports) {
            put(at, from.to_string());
            put(at + 1, to.to_string());
        }
        if let (Some(at), Some(sum)) = (at, sum) {
            put(at, format!("0x{sum:04x}"));
        }
    }
    all
}
