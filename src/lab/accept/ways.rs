//! How it is done. Every way of doing it passes the acceptance, so a fallback that nobody has asked for would pass it, too: what
//! `accept --expect` names is looked for in the rules and in conntrack, and so is what must not be there.

use super::claim::Claim;
use super::fetch;
use crate::lab::{Error, Lab, Machine, words};

/// A way of working that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Packets are queued by nft rules.
    NftQueue,
    /// They are queued by the target NFQUEUE, which nft rules jump to.
    XtQueue,
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
        (Self::XtQueue, "xt-queue"),
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

/// The rules of a node, as nft lists them.
struct Rules(String);

impl Rules {
    fn of(node: Machine<'_>) -> Result<Self, Error> {
        Ok(Self(node.must(&["nft", "list", "ruleset"])?))
    }

    /// Each rule with the chain that it is in.
    fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut chain = "";
        self.0.lines().map(str::trim).filter_map(move |line| match line.strip_prefix("chain ") {
            Some(name) => {
                chain = name.trim_end_matches(" {");
                None
            }
            None => Some((chain, line)),
        })
    }

    /// Rules of nft that queue, in nft's words.
    fn nft_queues(&self) -> Vec<&str> {
        let queue = |(chain, line): &(&str, &str)| {
            !is_of_xt(chain)
                && line.find("queue ").is_some_and(|at| {
                    let rest = &line[at..];
                    ["to symhash mod ", "to jhash"].iter().any(|words| rest.contains(words))
                        || rest
                            .split("to ")
                            .nth(1)
                            .is_some_and(|to| to.starts_with(|c: char| c.is_ascii_digit()))
                })
        };
        self.rules().filter(queue).map(|(_, line)| line).collect()
    }

    /// Rules with the target NFQUEUE. Each has a chain; nft, which has no word for it, lists it as its own `queue` or as a target.
    fn xt_queues(&self) -> usize {
        let is_queue = |line: &str| line.starts_with("queue ") || line.contains("NFQUEUE");
        self.rules().filter(|(chain, line)| is_of_xt(chain) && is_queue(line)).count()
    }

    /// Rules that set ct marks.
    fn ct_marks(&self) -> usize {
        self.0.lines().filter(|line| line.contains("ct mark set")).count()
    }
}

fn is_of_xt(chain: &str) -> bool {
    chain.strip_prefix("queue-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
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
            Expected::XtQueue => "packets are queued by the target NFQUEUE alone",
            Expected::NoQueue => "no packet is queued",
            Expected::CtMarkByVerdict => "ct marks are set by verdicts",
            Expected::CtMarkByRule => "ct marks are set by rules",
        },
    );
    for node in &lab.layout.nodes {
        let name = &node.name;
        let (rules, (queues, packets)) = (Rules::of(lab.on(name))?, queued(lab.on(name))?);
        let (nft, xt) = (rules.nft_queues(), rules.xt_queues());
        match way {
            Expected::NftQueue => {
                claim.must_be(format_args!("{name}: rules with the target NFQUEUE"), xt, 0);
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
                        "{name}: {} rules as \"{}\", {queues} queues, {packets} packets; no target NFQUEUE",
                        nft.len(),
                        rule.unwrap_or_default()
                    ),
                );
            }
            Expected::XtQueue => {
                claim.must(xt > 0, || format!("{name}: no rule with the target NFQUEUE"));
                claim.must(packets > 0, || format!("{name}: no packet was in a queue"));
                claim.must_be(format_args!("{name}: rules of nft with queue"), nft.len(), 0);
                claim.proof(
                    "rules",
                    format!(
                        "{name}: {xt} rules with the target NFQUEUE, {queues} queues, {packets} packets; no queue of nft"
                    ),
                );
            }
            Expected::NoQueue => {
                claim.must_be(format_args!("{name}: queues"), queues, 0);
                claim.must_be(format_args!("{name}: rules that queue"), nft.len() + xt, 0);
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
        let marked = flows.lines().filter(|line| fetch::mark(line).is_some_and(|mark| mark > 0)).count();
        claim.must(marked > 0, || format!("{home}: no flow has a mark"));
        let none = if way == Expected::CtMarkByVerdict { ", and no rule of any node sets one" } else { "" };
        claim.proof("ct", format!("{home}: {marked} flows have a mark{none}"));
    }
    Ok(claim)
}
