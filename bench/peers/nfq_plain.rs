//! A peer of the benchmark: the same rewriting as dunnat's, by the nfq crate as its documentation shows it.
//!
//! One `recv`, one `verdict` per packet, nothing else set. What it is told is in `arguments.txt`.

use std::collections::HashMap;
use std::error::Error;
use std::net::Ipv4Addr;

use nfq::{Message, Queue, Verdict};

type Failure = Box<dyn Error>;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// One node's view of the cluster.
#[derive(Default)]
struct Config {
    own_tag: u32,
    own_public: [u8; 4],
    services: HashMap<(u8, u16), [u8; 4]>,
    tags: HashMap<[u8; 3], u32>,
    publics: HashMap<u32, [u8; 4]>,
    pipes: Vec<u32>,
    stages: HashMap<u16, String>,
}

impl Config {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut config = Self::default();
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or_else(|| format!("what is '{argument}'?"))?;
            let value: Vec<&str> = value.split(',').collect();
            match (key, value.as_slice()) {
                ("own", [tag, public]) => {
                    config.own_tag = tag.parse()?;
                    config.own_public = address(public)?;
                }
                ("node", [tag, mac, public]) => {
                    let bytes: Result<Vec<u8>, _> =
                        mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
                    let mac = bytes?.try_into().map_err(|_| format!("not three bytes: {mac}"))?;
                    config.tags.insert(mac, tag.parse()?);
                    config.publics.insert(tag.parse()?, address(public)?);
                }
                ("service", [proto, port, guest]) => {
                    let proto = if *proto == "udp" { UDP } else { TCP };
                    config.services.insert((proto, port.parse()?), address(guest)?);
                }
                ("pipe", [name]) => {
                    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?;
                    config.pipes.push(index.trim().parse()?);
                }
                ("queue", [stage, number]) => {
                    config.stages.insert(number.parse()?, (*stage).to_owned());
                }
                _ => return Err(format!("what is '{argument}'?").into()),
            }
        }
        Ok(config)
    }

    fn decide(&self, message: &mut Message) {
        message.set_verdict(Verdict::Accept);
        let Some(stage) = self.stages.get(&message.get_queue_num()) else { return };
        let bytes = message.get_payload();
        let header = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
        if header < 20 || bytes.len() < header || bytes[0] >> 4 != 4 {
            if stage == "spoof" {
                message.set_verdict(Verdict::Drop);
            }
            return;
        }
        match stage.as_str() {
            "dnat" => {
                let fragment = bytes[6] & 0x1f != 0 || bytes[7] != 0;
                if bytes[16..20] != self.own_public || fragment || bytes.len() < header + 4 {
                    return;
                }
                let port = u16::from_be_bytes([bytes[header + 2], bytes[header + 3]]);
                if let Some(guest) = self.services.get(&(bytes[9], port)) {
                    message.set_nfmark(self.own_tag);
                    rewrite(message.get_payload_mut(), 16, *guest);
                }
            }
            "tag" if self.pipes.contains(&message.get_physindev()) => {
                let tag = message.get_hw_addr().and_then(|mac| self.tags.get(mac.get(..3)?));
                if let Some(tag) = tag {
                    message.set_nfmark(*tag);
                }
            }
            "spoof" => {
                if let Some(public) = self.publics.get(&message.get_nfmark()) {
                    rewrite(message.get_payload_mut(), 12, *public);
                }
            }
            _ => {}
        }
    }
}

fn address(text: &str) -> Result<[u8; 4], Failure> {
    Ok(text.parse::<Ipv4Addr>()?.octets())
}

/// Puts an address at an offset of the IP header, and brings the checksums up to date.
fn rewrite(bytes: &mut [u8], at: usize, to: [u8; 4]) {
    let header = usize::from(bytes[0] & 15) * 4;
    let first = bytes[6] & 0x1f == 0 && bytes[7] == 0;
    let from = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    bytes[at..at + 4].copy_from_slice(&to);
    update(&mut bytes[10..12], from, to);
    match bytes[9] {
        TCP if first && bytes.len() >= header + 20 => update(&mut bytes[header + 16..header + 18], from, to),
        UDP if first && bytes.len() >= header + 8 && bytes[header + 6..header + 8] != [0, 0] => {
            let sum = &mut bytes[header + 6..header + 8];
            update(sum, from, to);
            if *sum == [0, 0] {
                sum.fill(0xff);
            }
        }
        _ => {}
    }
}

/// RFC 1624.
fn update(sum: &mut [u8], from: [u8; 4], to: [u8; 4]) {
    let word = |high: u8, low: u8| u32::from(u16::from_be_bytes([high, low]));
    let not = |word: u32| !word & 0xffff;
    let mut new = not(word(sum[0], sum[1]));
    new += not(word(from[0], from[1])) + not(word(from[2], from[3]));
    new += word(to[0], to[1]) + word(to[2], to[3]);
    while new > 0xffff {
        new = (new >> 16) + (new & 0xffff);
    }
    sum.copy_from_slice(&(!new as u16).to_be_bytes());
}

fn main() -> Result<(), Failure> {
    let config = Config::parse(std::env::args().skip(1))?;
    let mut queue = Queue::open()?;
    for number in config.stages.keys() {
        queue.bind(*number)?;
    }
    println!("serving");
    loop {
        let mut message = match queue.recv() {
            Ok(message) => message,
            // ENOBUFS: the kernel has lost packets. The loops in C and Python go on, too.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
            Err(error) => return Err(error.into()),
        };
        config.decide(&mut message);
        queue.verdict(message)?;
    }
}
