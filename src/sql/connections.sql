CREATE OR REPLACE VIEW conversations AS
WITH
-- The runs of each node, numbered as they began.
runs AS MATERIALIZED (
    SELECT node, run, row_number() OVER (PARTITION BY node ORDER BY began) AS run_number
    FROM (SELECT node, run, min(time) AS began FROM events WHERE stage <> '' GROUP BY node, run) AS of_run
),
packets AS (
    SELECT
        e.flow AS flow, e.flow_proto AS proto, e.client AS client, e.client_port AS client_port,
        e.guest AS guest, e.guest_port AS guest_port,
        e.node AS node, e.run AS run, r.run_number * 17592186044416 + e.seq AS place, e.time AS time,
        e.stage AS stage, e.reason AS reason, e.verdict = 'accept' AS accepted,
        e.inner_src IS NOT NULL AS is_error,
        {has}(e.tcp_flags, 'syn') AS syn, {has}(e.tcp_flags, 'ack') AS ack, {has}(e.tcp_flags, 'rst') AS rst, {has}(e.tcp_flags, 'fin') AS fin,
        e.tcp_seq IS NOT NULL AND NOT {has}(e.tcp_flags, 'rst') AND (
            {has}(e.tcp_flags, 'syn') OR {has}(e.tcp_flags, 'fin') OR {has}(e.tcp_flags, 'psh') OR e.len > {LONGEST_HEADERS}
        ) AS asks,
        e.stage = 'spoof' AND e.inner_src IS NULL AND e.src = e.guest AS is_from_guest,
        e.stage = 'spoof' AND e.inner_src IS NULL AND e.src = e.guest AND e.verdict = 'accept' AS is_reply,
        CASE
            WHEN NOT {has}(e.tcp_flags, 'syn') THEN NULL
            WHEN e.stage = 'spoof' AND {has}(e.tcp_flags, 'ack') THEN (e.tcp_ack + 4294967295) % 4294967296
            WHEN e.stage <> 'spoof' AND NOT {has}(e.tcp_flags, 'ack') THEN e.tcp_seq
        END AS first_seq,
        CASE
            WHEN {has}(e.tcp_flags, 'rst') AND NOT {has}(e.tcp_flags, 'ack') THEN (e.tcp_seq + 4294967295) % 4294967296
        END AS resets,
        e.src AS src, e.dst AS dst, coalesce(e.dport, -1) AS dport,
        CASE WHEN e.new_src IS NULL THEN e.src ELSE e.new_src END AS left_src,
        coalesce(CASE WHEN e.new_src IS NULL THEN e.sport ELSE e.new_sport END, -1) AS left_port,
        e.new_src IS NOT NULL AS is_translated,
        coalesce(e.inner_new_dst, e.inner_dst) AS quoted_dst,
        e.icmp_type AS icmp_type, e.icmp_code AS icmp_code, e.icmp_mtu AS icmp_mtu,
        e.tcp_flags AS tcp_flags, e.tcp_seq AS tcp_seq, e.tcp_ack AS tcp_ack, e.len AS len, e.ip_id AS ip_id,
        coalesce(e.phys_in, '') AS phys_in, coalesce(e.in_if, '') AS in_if, coalesce(e.out_if, '') AS out_if,
        coalesce(e.mac, '') AS mac, coalesce(e.config, '') AS config, e.marks AS marks,
        e.mark_before AS mark_before, e.mark_after AS mark_after,
        e.ct_mark_before AS ct_mark_before, e.ct_mark_after AS ct_mark_after, coalesce(e.ct_mark_node, '') AS ct_mark_node,
        coalesce(e.ct_state, '') AS ct_state, coalesce(e.service, '') AS service, coalesce(e.entry, '') AS entry,
        e.new_dst AS new_dst, e.sport AS sport, e.new_dport AS new_dport
    FROM events AS e
    JOIN runs AS r ON e.node = r.node AND e.run = r.run
    WHERE e.flow <> ''
),

-- Which connection a packet belongs to: the one whose number the node has seen last. A client that gets a SYN/ACK from another
-- address than its original destination resets it there, which may be at another node.
firsts AS (
    SELECT flow AS of_flow, first_seq AS seq, min((node, place)) AS first_at FROM packets WHERE first_seq IS NOT NULL GROUP BY flow, first_seq
),
numbered AS (
    SELECT
        p.*,
        coalesce(p.first_seq, CASE WHEN f.seq IS NOT NULL AND f.first_at < (p.node, p.place) THEN p.resets END) AS begins_with
    FROM packets AS p
    LEFT JOIN firsts AS f ON p.flow = f.of_flow AND p.resets = f.seq
),
followed AS (
    SELECT *, argMax(begins_with, place) OVER (PARTITION BY flow, node ORDER BY place) AS last_seq FROM numbered
),
-- Nodes whose trace began later have packets of which the SYN is only in the traces of others.
connected AS MATERIALIZED (
    SELECT
        *,
        coalesce(last_seq, -1) AS own,
        coalesce(last_seq, CASE
            WHEN min(last_seq) OVER (PARTITION BY flow) = max(last_seq) OVER (PARTITION BY flow)
            THEN min(last_seq) OVER (PARTITION BY flow)
        END, -1) AS connection
    FROM followed
),

-- What has no number is parted by the address that was called, if there are several.
addresses AS (
    SELECT flow, dst, row_number() OVER (PARTITION BY flow ORDER BY first_at) AS part, count(*) OVER (PARTITION BY flow) AS several
    FROM (
        SELECT flow, dst, min((node, place)) AS first_at FROM connected WHERE connection = -1 AND stage = 'dnat' GROUP BY flow, dst
    ) AS called
),
parts AS MATERIALIZED (SELECT flow, dst, part FROM addresses WHERE several > 1),
unparted AS MATERIALIZED (
    SELECT *, dense_rank() OVER (PARTITION BY flow, {KIND} ORDER BY place) AS alike
    FROM connected
    WHERE connection = -1 AND flow IN (SELECT flow FROM parts)
),
asked AS MATERIALIZED (
    SELECT u.flow AS flow, {PACKET} AS packet, u.entry AS entry, p.part AS part
    FROM unparted AS u
    JOIN parts AS p ON u.flow = p.flow AND u.dst = p.dst
    WHERE u.stage = 'dnat' AND u.alike <= 2
),
by_packet AS (SELECT DISTINCT flow, packet, part FROM asked),
by_name AS (SELECT DISTINCT flow, entry, part FROM asked),
by_name_first AS (SELECT flow, entry, min(part) AS part FROM asked GROUP BY flow, entry),
found AS (
    SELECT
        u.flow AS flow, u.node AS node, u.place AS place,
        min(CASE WHEN n.part IS NOT NULL THEN p.part END) AS by_both,
        min({nullable}(p.part)) AS by_packet
    FROM (SELECT flow, node, place, entry, {PACKET} AS packet FROM unparted AS u WHERE stage IN ('tag', 'save')) AS u
    JOIN by_packet AS p ON u.flow = p.flow AND u.packet = p.packet
    LEFT JOIN (SELECT flow, entry, {nullable}(part) AS part FROM by_name) AS n
        ON u.flow = n.flow AND u.entry = n.entry AND p.part = n.part
    GROUP BY u.flow, u.node, u.place
),
parted AS MATERIALIZED (
    SELECT DISTINCT u.flow AS flow, u.node AS node, u.place AS place, CASE
        WHEN u.stage = 'dnat' THEN here.part
        WHEN u.stage = 'spoof' THEN CASE WHEN u.accepted THEN back.part END
        ELSE coalesce(f.by_both, f.by_packet, n.part)
    END AS part
    FROM unparted AS u
    LEFT JOIN (SELECT flow, dst, {nullable}(part) AS part FROM parts) AS here ON u.flow = here.flow AND u.dst = here.dst
    LEFT JOIN (SELECT flow, dst, {nullable}(part) AS part FROM parts) AS back ON u.flow = back.flow AND u.left_src = back.dst
    LEFT JOIN found AS f ON u.flow = f.flow AND u.node = f.node AND u.place = f.place
    LEFT JOIN (SELECT flow, entry, {nullable}(part) AS part FROM by_name_first) AS n ON u.flow = n.flow AND u.entry = n.entry
),
whole AS MATERIALIZED (
    SELECT * FROM connected WHERE NOT (connection = -1 AND flow IN (SELECT flow FROM parts))
),
seen AS MATERIALIZED (
    SELECT w.*, 0 AS part FROM whole AS w
    UNION ALL
    SELECT c.*, coalesce(p.part, 1) AS part
    FROM connected AS c
    JOIN (SELECT flow AS p_flow, node AS p_node, place AS p_place, part FROM parted) AS p
        ON c.flow = p.p_flow AND c.node = p.p_node AND c.place = p.p_place
    WHERE c.connection = -1
),

