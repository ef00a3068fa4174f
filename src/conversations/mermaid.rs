//! The ladder as a sequence diagram of Mermaid, which GitHub, GitLab and many wikis draw from text.

use std::fmt::Write as _;

use super::conversation::Conversation;
use super::ladder::Rung;
use super::text::{because, title};

/// The way of one conversation as a Mermaid diagram.
pub fn mermaid(conversation: &Conversation) -> String {
    let ladder = conversation.ladder();
    let last = ladder.lanes.len() - 1;
    let mut out = String::from("sequenceDiagram\n");
    let _ = writeln!(out, "    %% {}", title(conversation).replace(['%', '{', '}', '\n', '\r'], " "));
    for (place, lane) in ladder.lanes.iter().enumerate() {
        let kind = if place == 0 { "actor" } else { "participant" };
        let address =
            if lane.address.is_empty() { String::new() } else { format!("<br/>{}", escaped(&lane.address)) };
        let _ = writeln!(out, "    {kind} l{place} as {}{address}", escaped(&lane.name));
    }
    let finding = conversation.judgement.finding;
    let _ = writeln!(
        out,
        "    Note over l0,l{last}: {}<br/>{}",
        escaped(&finding.words().to_uppercase()),
        escaped(&because(conversation))
    );
    for rung in &ladder.rungs {
        let _ = match rung {
            Rung::Arrow(arrow) => {
                let frame = match arrow.frame() {
                    frame if frame.is_empty() => frame,
                    frame => format!("<br/>{}", escaped(&frame)),
                };
                let line = if arrow.pipe { "-->>" } else { "->>" };
                writeln!(out, "    l{}{line}l{}: {}{frame}", arrow.from, arrow.to, escaped(&arrow.label()))
            }
            Rung::Decision(decision) => {
                let parts: Vec<String> = decision.parts().iter().map(|part| escaped(part)).collect();
                let wrong = if decision.proves && !finding.is_right() { "!! " } else { "" };
                writeln!(
                    out,
                    "    Note over l{}: {wrong}{}<br/>{}",
                    decision.at,
                    escaped(&decision.title()),
                    parts.join("<br/>")
                )
            }
            Rung::Carried { at, carried } => {
                writeln!(out, "    Note over l{at}: {}<br/>{}", carried.stage, escaped(&carried.says()))
            }
            Rung::Gap { from, to, says } => writeln!(out, "    l{from}--xl{to}: {}", escaped(says)),
        };
    }
    for hint in conversation.hints() {
        let _ = writeln!(
            out,
            "    Note over l0,l{last}: {}: {}<br/>{}",
            hint.cause,
            escaped(&hint.says),
            escaped(&hint.decided_by())
        );
    }
    for also in &conversation.judgement.also {
        let _ = writeln!(out, "    Note over l0,l{last}: {}", escaped(also));
    }
    out
}

/// Signs that mean something to Mermaid, as it takes them in text.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            // `%%{` begins a directive, wherever it stands.
            '%' => out.push_str("#37;"),
            '{' => out.push_str("#123;"),
            '}' => out.push_str("#125;"),
            '#' => out.push_str("#35;"),
            ';' => out.push_str("#59;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '&' => out.push_str("#amp;"),
            '"' => out.push_str("#quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
