//! The sniffer on the outside: from start to stop, whatever is done in between, no inside address may be on the public LAN.

use std::fmt::Write as _;
use std::fs;

use ipnet::IpNet;

use super::by::By;
use super::capture::{self, read};
use super::machine::{lives_in, signal};
use super::{Error, Lab};
use crate::net::{Family, octets};

const CAPTURE: &str = "outside.pcap";
const LOG: &str = "outside.log";
const PID: &str = "outside.pid";

/// Starts it. It takes only what must not be there, so it costs little.
pub(crate) fn start(lab: &Lab, by: By) -> Result<(), Error> {
    if !super::tools::is_there("dumpcap") {
        crate::messages::message!(
            NOT_SNIFFED,
            "no check for inside addresses on the public LAN: dumpcap is not installed (Debian package \
             tshark)"
        );
        return Ok(());
    }
    let dumpcap = lab.on(lab.layout.lan).detached("dumpcap");
    let path = lab.file(CAPTURE);
    let mut child = capture::dumpcap(dumpcap, "lan", &path, &filter(lab, by))?;
    // Written before anything is waited for: whoever stops the lab has to find it.
    lab.write(PID, &child.id().to_string())?;
    capture::await_frames(&mut child, &path, lab.pace)
}

/// Ends it, before anything stops translating, and judges what it has seen: a sentence for each fault.
pub(crate) fn judge(lab: &Lab) -> Result<Vec<String>, Error> {
    let Ok(text) = fs::read_to_string(lab.file(PID)) else { return Ok(Vec::new()) };
    let _ = fs::remove_file(lab.file(PID));
    let lan = lab.on(lab.layout.lan);
    let Some(pid) = text.trim().parse().ok().filter(|pid| lives_in(lan, *pid)) else {
        return Ok(vec![format!(
            "the sniffer on the public LAN stopped by itself: {}",
            lab.file(LOG).display()
        )]);
    };
    // What it has seen last may still be on its way to it.
    std::thread::sleep(lab.pace.seconds(1) / 3);
    signal(pid, "INT")?;
    lab.pace.wait_for(5, || Ok::<_, Error>(!lives_in(lan, pid)))?;
    let capture = match read("outside", &lab.file(CAPTURE), &lab.read(LOG)?) {
        Ok(capture) => capture,
        Err(error) => return Ok(vec![format!("the sniffer on the public LAN proves nothing: {error}")]),
    };
    let mut faults = Vec::new();
    if capture.lost > 0 {
        faults.push(format!(
            "the sniffer on the public LAN lost {} frames, so it proves nothing",
            capture.lost
        ));
    }
    if !capture.frames.is_empty() {
        let networks: Vec<String> =
            lab.layout.families().map(|family| lab.layout.at(family).guests.to_string()).collect();
        let mut text = format!(
            "{} frames with an address of {} were on the public LAN between start and stop, for example:",
            capture.frames.len(),
            networks.join(" ")
        );
        for frame in capture.frames.iter().take(3) {
            let _ = write!(text, "\n    {frame}");
        }
        faults.push(text);
    }
    Ok(faults)
}

/// Frames with an inside address of any family, redirects that name one, and ICMP errors that quote one. (What an error quotes
/// no rule of the kernel's own can change.) In the words of pcap-filter(7).
fn filter(lab: &Lab, by: By) -> String {
    let all = lab.layout.families().map(|family| {
        let guests = lab.layout.at(family).guests;
        let mut words = format!("net {guests}");
        if family == Family::V6 {
            words += &format!(" or (icmp6 and icmp6[0] = 137 and {})", field("icmp6", 24, guests));
        }
        if by == By::Dunnat {
            let (error, bytes, src, dst) = match family {
                Family::V4 => (
                    "icmp and (icmp[0] = 3 or icmp[0] = 4 or icmp[0] = 5 or icmp[0] = 11 or icmp[0] = 12)",
                    "icmp",
                    20,
                    24,
                ),
                Family::V6 => ("icmp6 and icmp6[0] < 128", "icmp6", 16, 32),
            };
            let (src, dst) = (field(bytes, src, guests), field(bytes, dst, guests));
            words += &format!(" or ({error} and ({src} or {dst}))");
        }
        words
    });
    all.collect::<Vec<_>>().join(" or ")
}

/// At that place of libpcap's `bytes` is an address of that network. libpcap has words of 32 bits.
fn field(bytes: &str, offset: usize, network: IpNet) -> String {
    let address = octets(network.network());
    let mut left = u32::from(network.prefix_len());
    let mut all = Vec::new();
    for (place, word) in address.chunks_exact(4).enumerate() {
        let bits = left.min(32);
        if bits == 0 {
            break;
        }
        left -= bits;
        let word = word.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let at = format!("{bytes}[{}:4]", offset + 4 * place);
        // libpcap 1.10 never finds a 0 behind a mask of all bits.
        all.push(match bits {
            32 => format!("{at} = {word:#x}"),
            _ => format!("{at} & {:#x} = {word:#x}", u32::MAX << (32 - bits)),
        });
    }
    format!("({})", all.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_network_is_looked_for_word_by_word() {
        assert_eq!(
            field("icmp", 20, "10.5.5.0/24".parse().unwrap()),
            "(icmp[20:4] & 0xffffff00 = 0xa050500)"
        );
        assert_eq!(
            field("icmp6", 24, "fd00:5::/64".parse().unwrap()),
            "(icmp6[24:4] = 0xfd000005 and icmp6[28:4] = 0x0)"
        );
        assert_eq!(
            field("icmp6", 8, "fdaa:bb:cc:4400::/56".parse().unwrap()),
            "(icmp6[8:4] = 0xfdaa00bb and icmp6[12:4] & 0xffffff00 = 0xcc4400)"
        );
    }
}
