CREATE OR REPLACE VIEW conversations AS
WITH
-- The runs of all nodes, in the order of the nodes' names, and of each node as they began. An event's place is its run's number and its own:
-- so places are in the order in which events are looked at.
runs AS MATERIALIZED (
    SELECT node, run, row_number() OVER (ORDER BY node, began) * 17592186044416 AS first_place
    FROM (SELECT node, run, min(time) AS began FROM events WHERE stage <> '' GROUP BY node, run) AS of_run
),
-- A flow is a number here, and its name comes back at the end: there are many events, and each is compared with others often.
flows AS MATERIALIZED (
    SELECT *, row_number() OVER () AS number
    FROM (
        SELECT
            flow AS name, any_value(flow_proto) AS proto, any_value(client) AS client, any_value(client_port) AS client_port,
            any_value(guest) AS guest, any_value(guest_port) AS guest_port
        FROM events WHERE flow <> '' GROUP BY flow
    ) AS named
),
-- Only what all events are asked for. The rest of those that are looked at more closely is in `details`.
packets AS NOT MATERIALIZED (
    SELECT
        f.number AS flow, e.guest AS guest, e.node AS node, r.first_place AS run, r.first_place + e.seq AS place, e.time AS time,
        e.stage AS stage, e.reason AS reason, e.verdict = 'accept' AS accepted,
        e.inner_src IS NOT NULL AS is_error,
        {has}(e.tcp_flags, 'syn') AS syn, {has}(e.tcp_flags, 'ack') AS ack, {has}(e.tcp_flags, 'rst') AS rst,
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
        -- What the client calls, and by what it is answered.
        CASE WHEN e.stage = 'spoof' THEN coalesce(e.new_src, e.src) ELSE e.dst END AS outside,
        coalesce(CASE WHEN e.stage <> 'spoof' THEN e.dport WHEN e.new_src IS NULL THEN e.sport ELSE e.new_sport END, -1) AS outside_port,
        e.new_src IS NOT NULL AS is_translated,
        e.tcp_seq AS tcp_seq, e.tcp_ack AS tcp_ack, e.len AS len,
        coalesce(e.phys_in, '') AS phys_in, CASE WHEN e.stage = 'dnat' THEN coalesce(e.service, '') ELSE '' END AS service
    FROM events AS e
    JOIN runs AS r ON e.node = r.node AND e.run = r.run
    JOIN (SELECT name, number FROM flows) AS f ON e.flow = f.name
    WHERE e.flow <> ''
),
details AS NOT MATERIALIZED (
    SELECT
        e.flow AS name, e.flow_proto AS proto, e.guest AS guest, e.node AS node, e.run AS run, r.first_place + e.seq AS place, e.time AS time,
        e.stage AS stage, e.reason AS reason, e.verdict = 'accept' AS accepted,
        e.inner_src IS NOT NULL AS is_error,
        {has}(e.tcp_flags, 'syn') AS syn, {has}(e.tcp_flags, 'ack') AS ack, {has}(e.tcp_flags, 'rst') AS rst, {has}(e.tcp_flags, 'fin') AS fin,
        e.stage = 'spoof' AND e.inner_src IS NULL AND e.src = e.guest AS is_from_guest,
        e.src AS src, e.dst AS dst, coalesce(e.dport, -1) AS dport,
        coalesce(e.new_src, e.src) AS left_src,
        coalesce(CASE WHEN e.new_src IS NULL THEN e.sport ELSE e.new_sport END, -1) AS left_port,
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
firsts AS MATERIALIZED (
    SELECT flow AS of_flow, first_seq AS seq, min(place) AS first_at FROM packets WHERE first_seq IS NOT NULL GROUP BY flow, first_seq
),
resetting AS MATERIALIZED (
    SELECT DISTINCT p.flow AS r_flow, p.place AS r_place, 1 AS yes
    FROM packets AS p
    JOIN firsts AS f ON p.flow = f.of_flow AND p.resets = f.seq
    WHERE p.resets IS NOT NULL AND f.first_at < p.place
),
numbered AS (
    SELECT p.*, coalesce(p.first_seq, CASE WHEN coalesce(r.yes, 0) = 1 THEN p.resets END) AS begins_with
    FROM packets AS p
    LEFT JOIN resetting AS r ON p.flow = r.r_flow AND p.place = r.r_place
),
followed AS (
    SELECT *, argMax(begins_with, place) OVER (PARTITION BY flow, node ORDER BY place) AS last_seq FROM numbered
),
-- Nodes whose trace began later have packets of which the SYN is only in the traces of others.
connected AS MATERIALIZED (
    SELECT p.*, coalesce(p.last_seq, -1) AS own, coalesce(p.last_seq, o.only_seq, -1) AS connection
    FROM followed AS p
    LEFT JOIN (
        SELECT of_flow AS o_flow, CASE WHEN min(seq) = max(seq) THEN min(seq) END AS only_seq FROM firsts GROUP BY of_flow
    ) AS o ON p.flow = o.o_flow
),

-- What has no number is parted by the address that was called, if there are several.
addresses AS (
    SELECT flow, dst, row_number() OVER (PARTITION BY flow ORDER BY first_at) AS part, count(*) OVER (PARTITION BY flow) AS several
    FROM (
        SELECT flow, outside AS dst, min(place) AS first_at FROM connected WHERE connection = -1 AND stage = 'dnat' GROUP BY flow, outside
    ) AS called
),
parts AS MATERIALIZED (SELECT flow, dst, part FROM addresses WHERE several > 1),
unparted AS MATERIALIZED (
    SELECT *, dense_rank() OVER (PARTITION BY flow, {KIND} ORDER BY place) AS alike
    FROM (
        SELECT c.flow AS flow, d.*
        FROM details AS d
        JOIN (
            SELECT DISTINCT c.flow AS flow, c.place AS c_place, f.name AS c_name
            FROM connected AS c
            JOIN flows AS f ON c.flow = f.number
            WHERE c.connection = -1 AND c.flow IN (SELECT flow FROM parts)
        ) AS c ON d.place = c.c_place AND d.name = c.c_name
    ) AS detailed
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
        u.flow AS flow, u.place AS place,
        min(CASE WHEN n.part IS NOT NULL THEN p.part END) AS by_both,
        min({nullable}(p.part)) AS by_packet
    FROM (SELECT flow, place, entry, {PACKET} AS packet FROM unparted AS u WHERE stage IN ('tag', 'save')) AS u
    JOIN by_packet AS p ON u.flow = p.flow AND u.packet = p.packet
    LEFT JOIN (SELECT flow, entry, {nullable}(part) AS part FROM by_name) AS n
        ON u.flow = n.flow AND u.entry = n.entry AND p.part = n.part
    GROUP BY u.flow, u.place
),
parted AS MATERIALIZED (
    SELECT DISTINCT u.flow AS flow, u.place AS place, u.alike > 2 AS is_one_more, CASE
        WHEN u.stage = 'dnat' THEN here.part
        WHEN u.stage = 'spoof' THEN CASE WHEN u.accepted THEN back.part END
        ELSE coalesce(f.by_both, f.by_packet, n.part)
    END AS part
    FROM unparted AS u
    LEFT JOIN (SELECT flow, dst, {nullable}(part) AS part FROM parts) AS here ON u.flow = here.flow AND u.dst = here.dst
    LEFT JOIN (SELECT flow, dst, {nullable}(part) AS part FROM parts) AS back ON u.flow = back.flow AND u.left_src = back.dst
    LEFT JOIN found AS f ON u.flow = f.flow AND u.place = f.place
    LEFT JOIN (SELECT flow, entry, {nullable}(part) AS part FROM by_name_first) AS n ON u.flow = n.flow AND u.entry = n.entry
),
-- Of those that are alike, in the whole flow, `dunnat path` keeps the first two before it parts them.
seen AS NOT MATERIALIZED (
    SELECT c.*, coalesce(p.is_one_more, false) AS is_one_more, CASE WHEN c.connection <> -1 OR coalesce(m.yes, 0) = 0 THEN 0 ELSE coalesce(p.part, 1) END AS part
    FROM connected AS c
    LEFT JOIN (SELECT DISTINCT flow AS m_flow, 1 AS yes FROM parts) AS m ON c.flow = m.m_flow
    LEFT JOIN (SELECT flow AS p_flow, place AS p_place, is_one_more, part FROM parted) AS p
        ON c.flow = p.p_flow AND c.place = p.p_place
),

