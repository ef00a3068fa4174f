//! Conversations as JSON: a line for each, with names that stay; the schema explains them.

use std::net::IpAddr;

use serde::Serialize;

use super::cause::Cause;
use super::clue::Hint;
use super::conversation::Conversation;
use super::finding::{Finding, Proof};
use super::ladder::{Arrow, Rung};
use super::rule_drop::RuleDrop;
use crate::engine::Reason;
use crate::net::{Mac, Proto, Stage, Tuple, Verdict};
use crate::packet::TcpFlags;
use crate::trace::{Marks, Name};

/// The version of a line. It changes when a field goes or means something else; a new field does not change it.
pub const VERSION: u32 = 2;

/// The JSON Schema (draft 2020-12) of a line; it explains each field.
pub const SCHEMA: &str = include_str!("schema.json");

#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    number: usize,
    proto: Proto,
    client: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<&'a Name>,
    way: &'a [Name],
    events: u64,
    finding: Finding,
    right: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Hint>,
    says: &'a str,
    proof: &'a [Proof],
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a RuleDrop>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    also: &'a [String],
    ladder: Vec<Step<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Step<'a> {
    Packet(Packet<'a>),
    Decision(Decision<'a>),
    Carried { node: &'a Name, stage: Stage, packets: u64, bytes: u64 },
    Gap { from: &'a str, to: &'a str, says: &'a str },
}

#[derive(Serialize)]
struct Packet<'a> {
    from: &'a str,
    to: &'a str,
    pipe: bool,
    tuple: Tuple,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<TcpFlags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_node: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a Name>,
}

#[derive(Serialize)]
struct Decision<'a> {
    node: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a Name>,
    seq: u64,
    stage: Stage,
    reason: Reason,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Tuple>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Tuple>,
    mark: &'a Marks,
    #[serde(skip_serializing_if = "Option::is_none")]
    ct_mark: Option<&'a Marks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a Name>,
    proves: bool,
}

/// A line of JSON, with its newline.
pub fn json(conversation: &Conversation) -> serde_json::Result<String> {
    let ladder = conversation.ladder();
    let name = |lane: usize| ladder.lanes[lane].name.as_str();
    let steps = ladder.rungs.iter().map(|rung| match rung {
        Rung::Arrow(Arrow { from, to, pipe, packet, flags, mac, port }) => Step::Packet(Packet {
            from: name(*from),
            to: name(*to),
            pipe: *pipe,
            tuple: *packet,
            flags: *flags,
            mac: mac.map(|mac| mac.address),
            mac_node: mac.and_then(|mac| mac.node.as_ref()),
            interface: *port,
        }),
        Rung::Decision(decision) => Step::Decision(Decision {
            node: &decision.event.node,
            run: decision.event.run.as_ref(),
            seq: decision.event.seq,
            stage: decision.event.stage,
            reason: decision.event.reason,
            verdict: decision.event.verdict,
            before: decision.event.before,
            after: decision.event.after,
            mark: &decision.event.mark,
            ct_mark: decision.event.ct_mark.as_ref(),
            entry: decision.event.entry.as_ref(),
            proves: decision.proves,
        }),
        Rung::Carried { carried, .. } => Step::Carried {
            node: &carried.node,
            stage: carried.stage,
            packets: carried.packets,
            bytes: carried.bytes,
        },
        Rung::Gap { from, to, says } => Step::Gap { from: name(*from), to: name(*to), says },
    });
    let Tuple { proto, src, dst, ports } = conversation.flow;
    let at_guest = ports.map(|(_, port)| port);
    let judgement = &conversation.judgement;
    let mut line = serde_json::to_string(&Line {
        v: VERSION,
        number: conversation.number,
        proto,
        client: src,
        client_port: ports.map(|(client, _)| client),
        original_dst: conversation.original_dst,
        guest: conversation.has_guest.then_some(dst),
        original_port: conversation.original_port.or(at_guest),
        guest_port: at_guest
            .filter(|port| conversation.original_port.is_some_and(|original| original != *port)),
        service: conversation.service.as_ref(),
        entry: conversation.entry.as_ref(),
        home: conversation.home.as_ref(),
        way: &conversation.way,
        events: conversation.count(),
        finding: judgement.finding,
        right: judgement.finding.is_right(),
        cause: judgement.cause,
        causes: conversation.hints(),
        says: &judgement.says,
        proof: &judgement.proof,
        rule: judgement.rule.as_deref(),
        also: &judgement.also,
        ladder: steps.collect(),
    })?;
    line.push('\n');
    Ok(line)
}
