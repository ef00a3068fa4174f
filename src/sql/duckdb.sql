CREATE OR REPLACE TABLE events (
    flow VARCHAR, flow_proto VARCHAR, client VARCHAR, client_port BIGINT, guest VARCHAR, guest_port BIGINT,
    stage VARCHAR, node VARCHAR, run VARCHAR, seq BIGINT, time TIMESTAMP_NS, lost BIGINT, left_out BIGINT,
    in_if VARCHAR, out_if VARCHAR, phys_in VARCHAR, mac VARCHAR, config VARCHAR,
    proto VARCHAR, src VARCHAR, dst VARCHAR, sport BIGINT, dport BIGINT,
    new_src VARCHAR, new_dst VARCHAR, new_sport BIGINT, new_dport BIGINT,
    icmp_type BIGINT, icmp_code BIGINT, icmp_mtu BIGINT, inner_src VARCHAR, inner_dst VARCHAR, inner_new_dst VARCHAR,
    tcp_flags VARCHAR[], tcp_seq BIGINT, tcp_ack BIGINT, len BIGINT, ip_id BIGINT,
    mark_before BIGINT, mark_after BIGINT, ct_mark_before BIGINT, ct_mark_after BIGINT, ct_mark_node VARCHAR, marks VARCHAR,
    ct_state VARCHAR, service VARCHAR, entry VARCHAR, reason VARCHAR, verdict VARCHAR,
    community_id_inside VARCHAR, community_id_outside VARCHAR,
    carried_node VARCHAR, carried_stage VARCHAR, carried_by VARCHAR, carried_until TIMESTAMP_NS, carried_entry VARCHAR,
    carried_packets BIGINT, carried_bytes BIGINT, carried_flow VARCHAR, carried_back VARCHAR,
    rule_node VARCHAR, rule_time TIMESTAMP_NS, rule_hook VARCHAR, rule VARCHAR, rule_verdict VARCHAR, rule_is_ours BOOLEAN,
    rule_key VARCHAR, rule_asks BOOLEAN, rule_packet VARCHAR, rule_back VARCHAR,
    rule_proto VARCHAR, rule_src VARCHAR, rule_sport BIGINT, rule_dst VARCHAR, rule_dport BIGINT,
    -- The line as it was. What DuckDB would choose by itself takes longer, and much more room.
    raw JSON USING COMPRESSION zstd
);

-- The traces. Change the pattern here; with several folders it is a list: ['node1/*.jsonl', 'node2/*.jsonl'].
INSERT INTO events BY NAME
WITH lines AS (
    SELECT raw, from_json(raw, '{
        "seq": "BIGINT", "run": "VARCHAR", "config": "VARCHAR", "lost": "BIGINT", "left_out": "BIGINT", "time": "VARCHAR",
        "node": "VARCHAR", "stage": "VARCHAR", "in": "VARCHAR", "out": "VARCHAR", "phys_in": "VARCHAR",
        "mac": {"address": "VARCHAR", "node": "VARCHAR"},
        "before": {"proto": "VARCHAR", "src": "VARCHAR", "dst": "VARCHAR", "sport": "BIGINT", "dport": "BIGINT"},
        "after": {"proto": "VARCHAR", "src": "VARCHAR", "dst": "VARCHAR", "sport": "BIGINT", "dport": "BIGINT"},
        "len": "BIGINT", "ip_id": "BIGINT", "tcp": {"flags": ["VARCHAR"], "seq": "BIGINT", "ack": "BIGINT"},
        "icmp": {
            "type": "BIGINT", "code": "BIGINT", "mtu": "BIGINT",
            "inner": {"proto": "VARCHAR", "src": "VARCHAR", "dst": "VARCHAR", "sport": "BIGINT", "dport": "BIGINT"},
            "inner_after": {"proto": "VARCHAR", "src": "VARCHAR", "dst": "VARCHAR", "sport": "BIGINT", "dport": "BIGINT"}
        },
        "mark": {"before": "VARCHAR", "after": "VARCHAR", "node": "VARCHAR"},
        "ct_mark": {"before": "VARCHAR", "after": "VARCHAR", "node": "VARCHAR"}, "mask": "VARCHAR",
        "ct_state": "VARCHAR", "service": "VARCHAR", "entry": "VARCHAR", "about": "VARCHAR", "reason": "VARCHAR", "verdict": "VARCHAR",
        "community_id": {"inside": "VARCHAR", "outside": "VARCHAR"},
        "kernel": {
            "node": "VARCHAR", "time": "VARCHAR", "hook": "VARCHAR", "family": "VARCHAR", "table": "VARCHAR", "chain": "VARCHAR",
            "handle": "BIGINT", "rule": "VARCHAR", "is_ours": "BOOLEAN", "verdict": "VARCHAR", "flags": ["VARCHAR"],
            "packet": {"proto": "VARCHAR", "src": "VARCHAR", "dst": "VARCHAR", "sport": "BIGINT", "dport": "BIGINT"},
            "carried": {
                "node": "VARCHAR", "run": "VARCHAR", "entry": "VARCHAR", "stage": "VARCHAR", "by": "VARCHAR", "until": "VARCHAR",
                "packets": "BIGINT", "bytes": "BIGINT",
                "flow": {"proto": "VARCHAR", "src": "VARCHAR", "dst": "VARCHAR", "sport": "BIGINT", "dport": "BIGINT"}
            }
        }
    }') AS e
    FROM (SELECT json AS raw FROM read_ndjson_objects('*.jsonl', ignore_errors = true))
    WHERE raw IS NOT NULL
),
-- Client and guest: an error goes the other way than what it is about, and so does what the guest sends.
sided AS (
    SELECT raw, e, CASE
        WHEN e.icmp.inner.src IS NOT NULL THEN CASE e.stage
            WHEN 'dnat' THEN struct_pack(
                proto := e.icmp.inner_after.proto, src := e.icmp.inner_after.dst, dst := e.icmp.inner_after.src,
                sport := e.icmp.inner_after.dport, dport := e.icmp.inner_after.sport
            )
            WHEN 'spoof' THEN e.icmp.inner
            ELSE struct_pack(
                proto := e.icmp.inner.proto, src := e.icmp.inner.dst, dst := e.icmp.inner.src,
                sport := e.icmp.inner.dport, dport := e.icmp.inner.sport
            )
        END
        WHEN e.stage = 'dnat' AND (e.reason = {@service} OR e.service IS NOT NULL AND e.after.src IS NOT NULL) THEN e.after
        WHEN e.stage = 'dnat' THEN CASE WHEN e.service IS NOT NULL THEN e.before END
        WHEN e.reason IN ({@not-from-pipe}, {@not-to-guest}, {@not-from-guest}) AND e.verdict = 'accept' THEN NULL
        WHEN e.stage = 'spoof' THEN struct_pack(
            proto := e.before.proto, src := e.before.dst, dst := e.before.src, sport := e.before.dport, dport := e.before.sport
        )
        ELSE e.before
    END AS f
    FROM lines
)
SELECT
    coalesce({flow f}, '') AS flow,
    f.proto AS flow_proto, f.src AS client, f.sport AS client_port, f.dst AS guest, f.dport AS guest_port,
    CASE WHEN e.seq IS NULL THEN '' ELSE coalesce(e.stage, '') END AS stage,
    coalesce(e.node, '') AS node, coalesce(e.run, e.kernel.carried.run, '') AS run, coalesce(e.seq, 0) AS seq,
    CAST(rtrim(e.time, 'Z') AS TIMESTAMP_NS) AS time,
    coalesce(e.lost, 0) AS lost, coalesce(e.left_out, 0) AS left_out,
    e.in AS in_if, e.out AS out_if, e.phys_in AS phys_in,
    concat(e.mac.address, ' ', e.mac.node) AS mac, e.config AS config,
    e.before.proto AS proto, coalesce(e.before.src, '') AS src, coalesce(e.before.dst, '') AS dst,
    e.before.sport AS sport, e.before.dport AS dport,
    e.after.src AS new_src, e.after.dst AS new_dst, e.after.sport AS new_sport, e.after.dport AS new_dport,
    e.icmp.type AS icmp_type, e.icmp.code AS icmp_code, e.icmp.mtu AS icmp_mtu,
    e.icmp.inner.src AS inner_src, e.icmp.inner.dst AS inner_dst, e.icmp.inner_after.dst AS inner_new_dst,
    coalesce(e.tcp.flags, []) AS tcp_flags, e.tcp.seq AS tcp_seq, e.tcp.ack AS tcp_ack, e.len AS len, e.ip_id AS ip_id,
    -- The cluster's bits of both marks, as numbers; and all that is said of them.
    CAST(e.mark.before AS BIGINT) & CAST(e.mask AS BIGINT) AS mark_before,
    CAST(e.mark.after AS BIGINT) & CAST(e.mask AS BIGINT) AS mark_after,
    CAST(e.ct_mark.before AS BIGINT) & CAST(e.mask AS BIGINT) AS ct_mark_before,
    CAST(e.ct_mark.after AS BIGINT) & CAST(e.mask AS BIGINT) AS ct_mark_after, e.ct_mark.node AS ct_mark_node,
    concat_ws(' ', e.mark, e.ct_mark, e.mask) AS marks,
    e.ct_state AS ct_state, e.service AS service, coalesce(e.entry, e.about) AS entry,
    CASE e.reason {FORMER_REASONS} ELSE coalesce(e.reason, '') END AS reason, coalesce(e.verdict, '') AS verdict,
    e.community_id.inside AS community_id_inside, e.community_id.outside AS community_id_outside,
    -- What the kernel tells between decisions.
    e.kernel.carried.node AS carried_node, e.kernel.carried.stage AS carried_stage, e.kernel.carried.by AS carried_by,
    CAST(rtrim(e.kernel.carried.until, 'Z') AS TIMESTAMP_NS) AS carried_until,
    e.kernel.carried.entry AS carried_entry, e.kernel.carried.packets AS carried_packets, e.kernel.carried.bytes AS carried_bytes,
    coalesce({flow e.kernel.carried.flow}, '') AS carried_flow, coalesce({back e.kernel.carried.flow}, '') AS carried_back,
    coalesce(e.kernel.node, '') AS rule_node, CAST(rtrim(e.kernel.time, 'Z') AS TIMESTAMP_NS) AS rule_time,
    coalesce(e.kernel.hook, '') AS rule_hook, e.kernel.rule AS rule, coalesce(e.kernel.verdict, '') AS rule_verdict,
    coalesce(e.kernel.is_ours, false) AS rule_is_ours,
    concat_ws(' ', e.kernel.family, e.kernel.table, e.kernel.chain, e.kernel.handle, e.kernel.rule) AS rule_key,
    e.kernel.flags IS NULL OR (list_contains(e.kernel.flags, 'syn') AND NOT list_contains(e.kernel.flags, 'ack')) AS rule_asks,
    coalesce({flow e.kernel.packet}, '') AS rule_packet, coalesce({back e.kernel.packet}, '') AS rule_back,
    e.kernel.packet.proto AS rule_proto, e.kernel.packet.src AS rule_src, e.kernel.packet.sport AS rule_sport,
    e.kernel.packet.dst AS rule_dst, e.kernel.packet.dport AS rule_dport,
    raw
FROM sided;
