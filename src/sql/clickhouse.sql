-- Lines of traces go into `lines`, and are in `events` then:
--   clickhouse client --query "INSERT INTO lines FORMAT LineAsString" < node1.jsonl
-- Change here how long they are kept.
CREATE TABLE IF NOT EXISTS events (
    flow String, flow_proto String, client String, client_port Nullable(Int32), guest String, guest_port Nullable(Int32),
    stage String, node String, run String, seq Int64, time DateTime64(9, 'UTC'), lost Int64, left_out Int64,
    in_if Nullable(String), out_if Nullable(String), phys_in Nullable(String), mac Nullable(String), config Nullable(String),
    proto Nullable(String), src String, dst String, sport Nullable(Int32), dport Nullable(Int32),
    new_src Nullable(String), new_dst Nullable(String), new_sport Nullable(Int32), new_dport Nullable(Int32),
    icmp_type Nullable(Int32), icmp_code Nullable(Int32), icmp_mtu Nullable(Int64),
    inner_src Nullable(String), inner_dst Nullable(String), inner_new_dst Nullable(String),
    tcp_flags Array(String), tcp_seq Nullable(Int64), tcp_ack Nullable(Int64), len Nullable(Int64), ip_id Nullable(Int32),
    mark_before Nullable(Int64), mark_after Nullable(Int64),
    ct_mark_before Nullable(Int64), ct_mark_after Nullable(Int64), ct_mark_node Nullable(String), marks String,
    ct_state Nullable(String), service Nullable(String), entry Nullable(String),
    reason String, verdict String,
    community_id_inside Nullable(String), community_id_outside Nullable(String),
    carried_node Nullable(String), carried_stage Nullable(String), carried_by Nullable(String),
    carried_until Nullable(DateTime64(9, 'UTC')), carried_entry Nullable(String), carried_packets Nullable(Int64), carried_bytes Nullable(Int64),
    carried_flow String, carried_back String,
    rule_node String, rule_time Nullable(DateTime64(9, 'UTC')), rule_hook String, rule Nullable(String), rule_verdict String,
    rule_is_ours Bool, rule_key String, rule_asks Bool, rule_packet String, rule_back String,
    rule_proto Nullable(String), rule_src Nullable(String), rule_sport Nullable(Int32), rule_dst Nullable(String), rule_dport Nullable(Int32),
    raw String CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (flow, node, run, seq)
TTL toDateTime(time) + INTERVAL 30 DAY;

CREATE TABLE IF NOT EXISTS lines (raw String) ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS lines_to_events TO events AS
WITH read AS (
    SELECT raw, JSONExtract(raw, 'Tuple(
        seq Nullable(Int64), run Nullable(String), config Nullable(String), lost Nullable(Int64), left_out Nullable(Int64),
        time Nullable(String), node Nullable(String), stage Nullable(String),
        `in` Nullable(String), `out` Nullable(String), phys_in Nullable(String),
        mac Tuple(address Nullable(String), node Nullable(String)),
        before {TUPLE}, after {TUPLE}, nothing {TUPLE},
        len Nullable(Int64), ip_id Nullable(Int32), tcp Tuple(flags Array(String), seq Nullable(Int64), ack Nullable(Int64)),
        icmp Tuple(type Nullable(Int32), code Nullable(Int32), mtu Nullable(Int64), inner {TUPLE}, inner_after {TUPLE}),
        mark Tuple(before Nullable(String), after Nullable(String), node Nullable(String)),
        ct_mark Tuple(before Nullable(String), after Nullable(String), node Nullable(String)), mask Nullable(String),
        ct_state Nullable(String), service Nullable(String), entry Nullable(String), about Nullable(String),
        reason Nullable(String), verdict Nullable(String),
        community_id Tuple(inside Nullable(String), outside Nullable(String)),
        kernel Tuple(
            node Nullable(String), time Nullable(String), hook Nullable(String), family Nullable(String), `table` Nullable(String),
            chain Nullable(String), handle Nullable(Int64), rule Nullable(String), is_ours Nullable(Bool), verdict Nullable(String),
            flags Array(String), packet {TUPLE},
            carried Tuple(
                node Nullable(String), run Nullable(String), entry Nullable(String), stage Nullable(String), `by` Nullable(String),
                until Nullable(String), packets Nullable(Int64), bytes Nullable(Int64), flow {TUPLE}
            )
        )
    )') AS e
    FROM lines
),
-- Client and guest: an error goes the other way than what it is about, and so does what the guest sends.
sided AS (
    SELECT raw, e, multiIf(
        e.icmp.inner.src IS NOT NULL AND e.stage = 'dnat', {turned e.icmp.inner_after},
        e.icmp.inner.src IS NOT NULL AND e.stage = 'spoof', e.icmp.inner,
        e.icmp.inner.src IS NOT NULL, {turned e.icmp.inner},
        e.stage = 'dnat' AND (e.reason = {@service} OR e.service IS NOT NULL AND e.after.src IS NOT NULL), e.after,
        e.stage = 'dnat' AND e.service IS NOT NULL, e.before,
        e.stage = 'dnat', e.nothing,
        e.reason IN ({@not-from-pipe}, {@not-to-guest}, {@not-from-guest}) AND e.verdict = 'accept', e.nothing,
        e.stage = 'spoof', {turned e.before},
        e.before
    ) AS f
    FROM read
)
SELECT
    coalesce({flow f}, '') AS flow,
    coalesce(f.proto, '') AS flow_proto, coalesce(f.src, '') AS client, f.sport AS client_port,
    coalesce(f.dst, '') AS guest, f.dport AS guest_port,
    if(e.seq IS NULL, '', coalesce(e.stage, '')) AS stage,
    coalesce(e.node, '') AS node, coalesce(e.run, e.kernel.carried.run, '') AS run, coalesce(e.seq, 0) AS seq,
    parseDateTime64BestEffort(coalesce(e.time, e.kernel.time, e.kernel.carried.until, '1970-01-01T00:00:00Z'), 9, 'UTC') AS time,
    coalesce(e.lost, 0) AS lost, coalesce(e.left_out, 0) AS left_out,
    e.in AS in_if, e.out AS out_if, e.phys_in AS phys_in,
    coalesce(e.mac.address, '') || ' ' || coalesce(e.mac.node, '') AS mac, e.config AS config,
    e.before.proto AS proto, coalesce(e.before.src, '') AS src, coalesce(e.before.dst, '') AS dst,
    e.before.sport AS sport, e.before.dport AS dport,
    e.after.src AS new_src, e.after.dst AS new_dst, e.after.sport AS new_sport, e.after.dport AS new_dport,
    e.icmp.type AS icmp_type, e.icmp.code AS icmp_code, e.icmp.mtu AS icmp_mtu,
    e.icmp.inner.src AS inner_src, e.icmp.inner.dst AS inner_dst, e.icmp.inner_after.dst AS inner_new_dst,
    e.tcp.flags AS tcp_flags, e.tcp.seq AS tcp_seq, e.tcp.ack AS tcp_ack, e.len AS len, e.ip_id AS ip_id,
    -- The cluster's bits of both marks, as numbers; and all that is said of them.
    {ours e.mark.before} AS mark_before, {ours e.mark.after} AS mark_after,
    {ours e.ct_mark.before} AS ct_mark_before, {ours e.ct_mark.after} AS ct_mark_after, e.ct_mark.node AS ct_mark_node,
    toString((e.mark, e.ct_mark, e.mask)) AS marks,
    e.ct_state AS ct_state, e.service AS service, coalesce(e.entry, e.about) AS entry,
    CASE e.reason {FORMER_REASONS} ELSE coalesce(e.reason, '') END AS reason, coalesce(e.verdict, '') AS verdict,
    e.community_id.inside AS community_id_inside, e.community_id.outside AS community_id_outside,
    -- What the kernel tells between decisions.
    e.kernel.carried.node AS carried_node, e.kernel.carried.stage AS carried_stage, e.kernel.carried.by AS carried_by,
    parseDateTime64BestEffortOrNull(e.kernel.carried.until, 9, 'UTC') AS carried_until,
    e.kernel.carried.entry AS carried_entry, e.kernel.carried.packets AS carried_packets, e.kernel.carried.bytes AS carried_bytes,
    coalesce({flow e.kernel.carried.flow}, '') AS carried_flow, coalesce({back e.kernel.carried.flow}, '') AS carried_back,
    coalesce(e.kernel.node, '') AS rule_node, parseDateTime64BestEffortOrNull(e.kernel.time, 9, 'UTC') AS rule_time,
    coalesce(e.kernel.hook, '') AS rule_hook, e.kernel.rule AS rule, coalesce(e.kernel.verdict, '') AS rule_verdict,
    coalesce(e.kernel.is_ours, false) AS rule_is_ours,
    toString((e.kernel.family, e.kernel.table, e.kernel.chain, e.kernel.handle, e.kernel.rule)) AS rule_key,
    NOT JSONHas(raw, 'kernel', 'flags') OR (has(e.kernel.flags, 'syn') AND NOT has(e.kernel.flags, 'ack')) AS rule_asks,
    coalesce({flow e.kernel.packet}, '') AS rule_packet, coalesce({back e.kernel.packet}, '') AS rule_back,
    e.kernel.packet.proto AS rule_proto, e.kernel.packet.src AS rule_src, e.kernel.packet.sport AS rule_sport,
    e.kernel.packet.dst AS rule_dst, e.kernel.packet.dport AS rule_dport,
    raw
FROM sided;
