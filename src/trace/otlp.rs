//! Decisions as spans of OpenTelemetry: OTLP/JSON, a line for each, which is an `ExportTraceServiceRequest` of its own.
//!
//! The form is that of opentelemetry-proto 1.x and its JSON encoding (specification of OTLP, "JSON Protobuf Encoding"): names in
//! lowerCamelCase, ids as hexadecimal digits, enumerations as numbers, and integers of 64 bits as texts.
//!
//! A span is one decision at one node. Its trace is the flow: the trace id is made from protocol, client, guest and ports alone, so
//! spans of all nodes, stages and directions meet in one trace, and no node has to tell another. A flow that comes again with the same
//! ports has the same id; times tell the two apart. What is about no flow has a trace of its own.

use std::io;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::carried::Carried;
use super::event::{Event, Marks};
use super::text;
use crate::net::{Stage, Tuple, Verdict, octets};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`: what was dropped.
const ERROR: u8 = 2;
/// What the id of a trace is made from begins so; it changes if ever the rest does.
const TRACE: &str = "dunnat flow 1";

/// Appends a decision.
pub(super) fn event(event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
    let own = [
        event.node.as_bytes(),
        event.run.as_deref().unwrap_or_default().as_bytes(),
        &event.seq.to_be_bytes(),
    ];
    let span = span_id(&own);
    let trace = event.flow().map_or_else(|| trace_of_its_own(&own), trace_id);
    let end = event.time.as_nanosecond();
    let start = end - i128::from(event.deciding_ns);
    let mut attributes = Attributes::default();
    attributes.text("dunnat.stage", event.stage);
    attributes.text("dunnat.reason", event.reason);
    attributes.text("dunnat.verdict", event.verdict);
    attributes.number("dunnat.seq", event.seq);
    attributes.text("dunnat.decision", text::decision(event));
    if let Some(waited) = event.waited_ns {
        attributes.number("dunnat.waited_ns", waited);
    }
    if event.lost > 0 {
        attributes.number("dunnat.lost", event.lost);
    }
    for (name, value) in [
        ("dunnat.service", &event.service),
        ("dunnat.entry", &event.entry),
        ("dunnat.config", &event.config),
        ("dunnat.run", &event.run),
        ("dunnat.in", &event.in_if),
        ("dunnat.out", &event.out_if),
        ("dunnat.phys_in", &event.phys_in),
    ] {
        if let Some(value) = value {
            attributes.text(name, value);
        }
    }
    attributes.marks("dunnat.mark", Some(&event.mark));
    attributes.marks("dunnat.ct_mark", event.ct_mark.as_ref());
    // The names of the semantic conventions of OpenTelemetry, as the packet came.
    if let Some(Tuple { proto, src, dst, ports }) = event.before {
        attributes.text("network.transport", proto);
        attributes.text("source.address", src);
        attributes.text("destination.address", dst);
        if let Some((from, to)) = ports {
            attributes.number("source.port", from.into());
            attributes.number("destination.port", to.into());
        }
    }
    if let Some(after) = event.after {
        attributes.text("dunnat.after", after);
    }
    let status = match event.verdict {
        Verdict::Accept => json!({}),
        Verdict::Drop => json!({ "code": ERROR, "message": event.reason.to_string() }),
    };
    let span = json!({
        "traceId": trace,
        "spanId": span,
        "name": event.stage.to_string(),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(start),
        "endTimeUnixNano": nanoseconds(end),
        "attributes": attributes.0,
        "status": status,
    });
    write(&event.node, &span, out)
}

/// Appends what the kernel has carried: a span from when it was last told to when it is told.
pub(super) fn carried(carried: &Carried, out: &mut Vec<u8>) -> io::Result<()> {
    let counted = &carried.counted;
    let stage = counted.stage.to_string();
    let flow = counted.flow.map(|flow| flow.to_string()).unwrap_or_default();
    let end = counted.until.as_nanosecond();
    let own = [
        carried.node.as_bytes(),
        carried.run.as_deref().unwrap_or_default().as_bytes(),
        stage.as_bytes(),
        flow.as_bytes(),
        &end.to_be_bytes(),
    ];
    // Before dnat has translated it nothing tells the guest.
    let known = match counted.stage {
        Stage::Dnat => None,
        Stage::Tag | Stage::Save => counted.flow,
        Stage::Spoof => counted.flow.map(Tuple::reversed),
    };
    let mut attributes = Attributes::default();
    attributes.text("dunnat.stage", counted.stage);
    attributes.number("dunnat.carried.packets", counted.packets);
    attributes.number("dunnat.carried.bytes", counted.bytes);
    if !flow.is_empty() {
        attributes.text("dunnat.carried.flow", &flow);
    }
    let span = json!({
        "traceId": known.map_or_else(|| trace_of_its_own(&own), trace_id),
        "spanId": span_id(&own),
        "name": format!("{stage} carried"),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(counted.since.unwrap_or(counted.until).as_nanosecond()),
        "endTimeUnixNano": nanoseconds(end),
        "attributes": attributes.0,
        "status": {},
    });
    write(&carried.node, &span, out)
}

/// The resource is the node.
fn write(node: &str, span: &Value, out: &mut Vec<u8>) -> io::Result<()> {
    let mut resource = Attributes::default();
    resource.text("service.name", "dunnat");
    resource.text("service.instance.id", node);
    let request = json!({
        "resourceSpans": [{
            "resource": { "attributes": resource.0 },
            "scopeSpans": [{
                "scope": { "name": "dunnat", "version": env!("CARGO_PKG_VERSION") },
                "spans": [span],
            }],
        }],
    });
    serde_json::to_writer(&mut *out, &request)?;
    out.push(b'\n');
    Ok(())
}

/// Key and value, as OTLP has them.
#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn text(&mut self, key: &str, value: impl ToString) {
        self.0.push(json!({ "key": key, "value": { "stringValue": value.to_string() } }));
    }

    fn number(&mut self, key: &str, value: u64) {
        // The type has a sign.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.push(json!({ "key": key, "value": { "intValue": value.to_string() } }));
    }

    fn marks(&mut self, key: &str, marks: Option<&Marks>) {
        let Some(marks) = marks else { return };
        for (part, mark) in [("before", marks.before), ("after", marks.after)] {
            if let Some(mark) = mark {
                self.text(&format!("{key}.{part}"), mark);
            }
        }
    }
}

/// Nanoseconds since 1970: `fixed64`, which has no sign.
fn nanoseconds(at: i128) -> String {
    u64::try_from(at).unwrap_or(0).to_string()
}

/// The trace of a flow (client → guest): the first 16 bytes of SHA-256 over its parts.
fn trace_id(flow: Tuple) -> String {
    let Tuple { proto, src, dst, ports } = flow;
    let (from, to) = ports.unwrap_or_default();
    let (src, dst) = (octets(src), octets(dst));
    id(16, &[TRACE.as_bytes(), &[proto.0], &src, &dst, &from.to_be_bytes(), &to.to_be_bytes()])
}

fn trace_of_its_own(own: &[&[u8]]) -> String {
    id(16, &[&[b"dunnat alone 1".as_slice()], own].concat())
}

fn span_id(own: &[&[u8]]) -> String {
    id(8, &[&[b"dunnat span 1".as_slice()], own].concat())
}

/// As hexadecimal digits. An id that is all zero is none (W3C Trace Context), so it is not made.
fn id(length: usize, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length: no two lists of parts are one text.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut text: String = digest.iter().take(length).map(|byte| format!("{byte:02x}")).collect();
    if text.bytes().all(|digit| digit == b'0') {
        text.pop();
        text.push('1');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::trace::samples;

    fn lines() -> Vec<Value> {
        let mut out = Vec::new();
        for one in samples::events() {
            event(&one, &mut out).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn span(line: &Value) -> &Value {
        let spans = line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 1);
        &spans[0]
    }

    fn is_hex(value: &Value, digits: usize) -> bool {
        let text = value.as_str().unwrap();
        text.len() == digits
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && text.bytes().any(|byte| byte != b'0')
    }

    /// The rules of the specification: ids, times, names of fields, and kinds of values.
    #[test]
    fn each_line_is_a_request_as_the_specification_has_it() {
        let (lines, events) = (lines(), samples::events());
        assert_eq!(lines.len(), events.len());
        let mut ids = BTreeSet::new();
        for (line, event) in lines.iter().zip(&events) {
            assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["resourceSpans"]);
            let span = span(line);
            let known: BTreeSet<&str> = [
                "traceId",
                "spanId",
                "name",
                "kind",
                "startTimeUnixNano",
                "endTimeUnixNano",
                "attributes",
                "status",
            ]
            .into();
            assert!(span.as_object().unwrap().keys().all(|key| known.contains(key.as_str())), "{span}");
            assert!(is_hex(&span["traceId"], 32) && is_hex(&span["spanId"], 16), "{span}");
            assert!(ids.insert(span["spanId"].to_string()), "a span is there twice");
            let time = |name: &str| -> u64 {
                let text = span[name].as_str().expect("64 bits are a text");
                text.parse().unwrap()
            };
            let (start, end) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
            assert_eq!(i128::from(end), event.time.as_nanosecond());
            assert_eq!(end - start, event.deciding_ns);
            assert_eq!(span["kind"], 1);
            assert_eq!(span["status"]["code"] == 2, event.verdict == Verdict::Drop, "{span}");
            let resource = &line["resourceSpans"][0]["resource"]["attributes"];
            let all = span["attributes"].as_array().unwrap().iter().chain(resource.as_array().unwrap());
            let mut keys = BTreeSet::new();
            for attribute in all {
                assert!(keys.insert(attribute["key"].as_str().unwrap()), "{attribute} is there twice");
                let value = attribute["value"].as_object().unwrap();
                let (kind, value) = value.iter().next().unwrap();
                assert!(
                    value.is_string() && ["stringValue", "intValue"].contains(&kind.as_str()),
                    "{attribute}"
                );
                assert!(kind != "intValue" || value.as_str().unwrap().parse::<i64>().is_ok(), "{attribute}");
            }
            assert!(keys.contains("service.name"), "{keys:?}");
        }
    }

    /// dnat and save on node2, tag and spoof on node1; request and reply.
    #[test]
    fn spans_of_all_nodes_stages_and_directions_meet_in_the_trace_of_their_flow() {
        let (lines, events) = (lines(), samples::events());
        for (one, event) in lines.iter().zip(&events) {
            for (other, its_event) in lines.iter().zip(&events) {
                let is_same = event.seq == its_event.seq && event.node == its_event.node
                    || event.flow().is_some() && event.flow() == its_event.flow();
                assert_eq!(
                    span(one)["traceId"] == span(other)["traceId"],
                    is_same,
                    "{event:?}\n{its_event:?}"
                );
            }
        }
        let nodes: BTreeSet<_> =
            events.iter().filter(|it| it.flow() == events[0].flow()).map(|it| &it.node).collect();
        assert!(nodes.len() > 1, "{nodes:?}");
        // Whoever has ids of an older program in a database finds them again.
        assert_eq!(
            trace_id("tcp 192.168.122.1:40000 > 10.5.5.201:80".parse().unwrap()),
            trace_id(events[0].flow().unwrap())
        );
        assert_ne!(
            trace_id("tcp 192.168.122.1:40000 > 10.5.5.201:80".parse().unwrap()),
            trace_id("udp 192.168.122.1:40000 > 10.5.5.201:80".parse().unwrap())
        );
    }

    #[test]
    fn what_the_kernel_has_carried_is_in_the_trace_of_its_flow() {
        use crate::trace::carried::Carried;
        use crate::trace::{Carrier, Counted};
        let flow: Tuple = "tcp 192.168.122.1:40000 > 10.5.5.201:80".parse().unwrap();
        let time = samples::events()[0].time;
        for (stage, told, meets) in
            [(Stage::Tag, flow, true), (Stage::Spoof, flow.reversed(), true), (Stage::Dnat, flow, false)]
        {
            let counted =
                Counted { packets: 9, flow: Some(told), ..Counted::new(stage, Carrier::Flow, time) };
            let all = Carried { node: "node1".into(), run: None, entry: None, counted };
            let mut out = Vec::new();
            carried(&all, &mut out).unwrap();
            let line: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(span(&line)["traceId"] == trace_id(flow), meets, "{stage}");
            assert!(
                is_hex(&span(&line)["spanId"], 16) && line.to_string().contains("dunnat.carried.packets")
            );
        }
    }
}
