//! How it is done. Every way of doing it passes the acceptance, so a fallback that nobody has asked for would pass it, too: what
//! `accept --expect` names is looked for in the rules and in conntrack, and so is what must not be there.

use super::ask;
use super::claim::Claim;
use crate::lab::{Error, Lab, Machine, words};

/// A way of working that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Packets are queued by nft rules.
    NftQueue,
    /// They are queued by iptables-nft.
    IptablesQueue,
    /// No packet is queued.
    NoQueue,
    /// Verdicts set ct marks.
    CtMarkByVerdict,
    /// Rules set ct marks.
    CtMarkByRule,
}

impl Expected {
    /// All there are, with their names.
    pub const ALL: [(Self, &str); 5] = [
        (Self::NftQueue, "nft-queue"),
        (Self::IptablesQueue, "iptables-queue"),
        (Self::NoQueue, "no-queue"),
        (Self::CtMarkByVerdict, "ct-mark-by-verdict"),
        (Self::CtMarkByRule, "ct-mark-by-rule"),
    ];
}

impl std::str::FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &Self::ALL)
    }
}

/// The rules of a node: as nft lists them, and as iptables, which shows none that are not its own.
struct Rules {
    nft: String,
    iptables: String,
}

impl Rules {
    fn of(node: Machine<'_>) -> Result<Self, Error> {
        let iptables = [node.must(&["iptables-nft-save"])?, node.must(&["ip6tables-nft-save"])?].concat();
        Ok(Self { nft: node.must(&["nft", "list", "ruleset"])?, iptables })
    }

    /// Rules of nft that queue, in nft's words.
    fn nft_queues(&self) -> Vec<&str> {
        let queue = |line: &&str| {
            line.find("queue ").is_some_and(|at| {
                let rest = &line[at..];
                ["to symhash mod ", "to jhash"].iter().any(|words| rest.contains(words))
                    || rest.split("to ").nth(1).is_some_and(|to| to.starts_with(|c: char| c.is_ascii_digit()))
            })
        };
        self.nft.lines().map(str::trim).filter(queue).collect()
    }

    fn iptables_queues(&self) -> usize {
        self.iptables.lines().filter(|line| line.contains("NFQUEUE")).count()
    }

    /// Rules that set ct marks, in either language.
    fn ct_marks(&self) -> usize {
        let all = self.nft.lines().chain(self.iptables.lines());
        all.filter(|line| line.contains("ct mark set") || line.contains("CONNMARK")).count()
    }
}

/// How many queues a node has, and how many packets they have handed over (nfnetlink_queue.c, `seq_show()`: the last number but one
/// is the last packet's).
fn queued(node: Machine<'_>) -> Result<(usize, u64), Error> {
    let output = node.output(&["cat", "/proc/net/netfilter/nfnetlink_queue"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let packets = text.lines().filter_map(|line| line.split_whitespace().nth(7)?.parse::<u64>().ok());
    Ok((text.lines().count(), packets.sum()))
}

/// Judged while it runs, and after there was traffic.
pub(super) fn judge(lab: &Lab, way: Expected) -> Result<Claim, Error> {
    let mut claim = Claim::new(
        None,
        match way {
            Expected::NftQueue => "packets are queued by nft alone",
            Expected::IptablesQueue => "packets are queued by iptables-nft alone",
            Expected::NoQueue => "no packet is queued",
            Expected::CtMarkByVerdict => "ct marks are set by verdicts",
            Expected::CtMarkByRule => "ct marks are set by rules",
        },
    );
    for node in &lab.layout.nodes {
        let name = &node.name;
        let (rules, (queues, packets)) = (Rules::of(lab.on(name))?, queued(lab.on(name))?);
        let (nft, iptables) = (rules.nft_queues(), rules.iptables_queues());
        match way {
            Expected::NftQueue => {
                claim.must_be(format_args!("{name}: rules of iptables with NFQUEUE"), iptables, 0);
                claim.must(!nft.is_empty(), || format!("{name}: no rule of nft with queue"));
                claim.must(packets > 0, || format!("{name}: no packet was in a queue"));
                // More queues than rules: a rule spreads packets over several, and by symhash both directions meet in one.
                if queues > nft.len() {
                    let spread = nft.iter().filter(|rule| rule.contains("symhash mod")).count();
                    claim.must_be(
                        format_args!("{name}: rules that spread packets by symhash"),
                        spread,
                        nft.len(),
                    );
                }
                let rule = nft.first().and_then(|rule| rule.find("queue ").map(|at| &rule[at..]));
                claim.proof(
                    "rules",
                    format!(
                        "{name}: {} rules as \"{}\", {queues} queues, {packets} packets; no NFQUEUE in iptables-save",
                        nft.len(),
                        rule.unwrap_or_default()
                    ),
                );
            }
            Expected::IptablesQueue => {
                claim.must(iptables > 0, || format!("{name}: no rule of iptables with NFQUEUE"));
                claim.must(packets > 0, || format!("{name}: no packet was in a queue"));
                claim.must_be(format_args!("{name}: rules of nft with queue"), nft.len(), 0);
                claim.proof(
                    "rules",
                    format!(
                        "{name}: {iptables} rules with NFQUEUE in iptables-save, {queues} queues, {packets} packets; no queue of \
                         nft"
                    ),
                );
            }
            Expected::NoQueue => {
                claim.must_be(format_args!("{name}: queues"), queues, 0);
                claim.must_be(format_args!("{name}: rules that queue"), nft.len() + iptables, 0);
                claim.proof("rules", format!("{name}: no queue, and no rule that queues"));
            }
            Expected::CtMarkByVerdict => {
                claim.must_be(format_args!("{name}: rules that set ct marks"), rules.ct_marks(), 0);
            }
            Expected::CtMarkByRule => {
                claim.must(rules.ct_marks() > 0, || format!("{name}: no rule sets ct marks"));
                claim.proof("rules", format!("{name}: {} rules set ct marks", rules.ct_marks()));
            }
        }
    }
    if matches!(way, Expected::CtMarkByVerdict | Expected::CtMarkByRule) {
        let home = &lab.layout.home().name;
        let flows = lab.on(home).must(&["conntrack", "-L"])?;
        let marked = flows.lines().filter(|line| ask::mark(line).is_some_and(|mark| mark > 0)).count();
        claim.must(marked > 0, || format!("{home}: no flow has a mark"));
        let none = if way == Expected::CtMarkByVerdict { ", and no rule of any node sets one" } else { "" };
        claim.proof("ct", format!("{home}: {marked} flows have a mark{none}"));
    }
    Ok(claim)
}
