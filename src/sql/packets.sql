-- Replies: the first, and the first whose source is not the original destination.
replies AS MATERIALIZED (
    SELECT
        flow, connection, part, max(has_wrong_port) AS has_wrong_port, max(is_wrong) AS has_wrong_address,
        argMin(node, place) AS node, argMin(is_stray, place) AS is_stray, argMin(accepts, place) AS accepts,
        argMin(CASE WHEN is_wrong THEN outside END, place) AS wrong_src, argMin(CASE WHEN is_wrong THEN by_pipe END, place) AS wrong_by_pipe,
        argMin(CASE WHEN is_wrong THEN reason END, place) AS wrong_reason
    FROM (
        SELECT
            s.flow AS flow, s.connection AS connection, s.part AS part, s.node AS node, s.place AS place, s.outside AS outside,
            s.reason AS reason, s.syn AND s.ack AS accepts, coalesce(s.outside <> b.original_dst, false) AS is_wrong,
            s.outside_port <> b.original_port AS has_wrong_port,
            coalesce(f.is_stray, false) AS is_stray, coalesce(f.by_pipe, false) AS by_pipe
        FROM seen AS s
        JOIN base AS b ON s.flow = b.flow AND s.connection = b.connection AND s.part = b.part
        LEFT JOIN frames AS f ON s.guest = f.guest AND s.node = f.node AND s.phys_in = f.phys_in
        WHERE s.is_reply
    ) AS told
    GROUP BY flow, connection, part
),

-- What is not simply answered rightly is looked at event by event. Of those that are alike the first two count, as in `dunnat path`.
hard AS MATERIALIZED (
    SELECT b.*
    FROM base AS b
    {left b p | has_wrong_address, has_wrong_port | replies}
    WHERE NOT (
        b.has_request AND b.replied AND NOT b.has_error AND NOT b.one_to_one AND b.home IS NOT NULL
        AND NOT coalesce(p.has_wrong_address, false) AND NOT coalesce(p.has_wrong_port, false)
    )
),
kept AS MATERIALIZED (
    SELECT *, {PACKET} AS packet FROM (
        SELECT
            *,
            dense_rank() OVER (PARTITION BY flow, own, part, {KIND} ORDER BY place) AS alike,
            -- What is in two files is one event.
            row_number() OVER (PARTITION BY flow, place ORDER BY place) AS copy
        FROM (
            SELECT s.flow AS flow, s.connection AS connection, s.part AS part, s.own AS own, d.*
            FROM (SELECT * FROM details WHERE name IN (SELECT name FROM hard)) AS d
            JOIN (
                SELECT s.flow AS flow, s.connection AS connection, s.part AS part, s.own AS own, s.place AS s_place, h.name AS s_name
                FROM seen AS s
                JOIN hard AS h ON s.flow = h.flow AND s.connection = h.connection AND s.part = h.part
                WHERE NOT s.is_one_more
            ) AS s ON d.place = s.s_place AND d.name = s.s_name
        ) AS detailed
    ) AS u
    WHERE alike <= 2 AND copy = 1
),
nearest AS (
    SELECT k.flow AS flow, k.connection AS connection, k.part AS part, argMax(k.node, (w.ways, k.time, k.node)) AS node
    FROM kept AS k
    JOIN hard AS h ON k.flow = h.flow AND k.connection = h.connection AND k.part = h.part
    JOIN ways AS w ON k.guest = w.guest AND k.node = w.node
    WHERE k.stage = 'tag' AND k.node <> coalesce(h.entry_node, '')
    GROUP BY k.flow, k.connection, k.part
),
may_be_home AS MATERIALIZED (
    SELECT
        h.flow AS flow, h.connection AS connection, h.part AS part,
        coalesce(h.home, n.node, h.entry_node, '') AS home_or_nearest
    FROM hard AS h
    LEFT JOIN (SELECT flow, connection, part, {nullable}(node) AS node FROM nearest) AS n
        ON h.flow = n.flow AND h.connection = n.connection AND h.part = n.part
),
at_home AS MATERIALIZED (
    SELECT k.*
    FROM kept AS k
    {left k m | home_or_nearest | may_be_home}
    WHERE m.home_or_nearest = '' OR m.home_or_nearest = k.node
),
unknown_sender AS (
    SELECT DISTINCT flow, connection, part, 1 AS yes
    FROM at_home
    WHERE reason IN ({@unknown-mac}, {@no-mac}, {@unknown-pipe}, {@unknown-dscp})
),

-- A ct mark was decided on a node, and a later packet there found none.
forgetting AS (
    SELECT flow, connection, part, node, place, decided, row_number() OVER (PARTITION BY flow, connection, part ORDER BY place) AS nth
    FROM (
        SELECT
            *,
            max(CASE WHEN ct_mark_after IS NOT NULL THEN place END) OVER (
                PARTITION BY flow, connection, part, node ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS decided
        FROM at_home
        WHERE NOT is_error AND (ct_mark_before IS NOT NULL OR ct_mark_after IS NOT NULL)
    ) AS marked
    WHERE ct_mark_before = 0 AND decided IS NOT NULL
),
not_kept AS (
    SELECT
        d.flow AS flow, d.connection AS connection, d.part AS part,
        max(d.stage = 'save' OR (l.run = d.run AND l.place > d.place AND NOT l.is_error
            AND (l.stage = 'save' AND l.packet = d.packet OR l.is_from_guest))) AS is_passed
    FROM forgetting AS f
    JOIN kept AS d ON f.flow = d.flow AND f.connection = d.connection AND f.part = d.part AND f.node = d.node AND f.decided = d.place
    JOIN kept AS l ON f.flow = l.flow AND f.connection = l.connection AND f.part = l.part AND f.node = l.node
    WHERE f.nth = 1
    GROUP BY d.flow, d.connection, d.part
),
-- The mark that one stage decided is another at save; or the flow has a ct mark that no node gave it.
marks_changed AS (
    SELECT flow, connection, part, 1 AS yes
    FROM (
        SELECT
            k.flow AS flow, k.connection AS connection, k.part AS part,
            k.stage = 'save' AND NOT k.is_error AND k.mark_before IS NOT NULL AND argMin(
                CASE WHEN k.stage IN ('dnat', 'tag') THEN k.mark_after END, k.place
            ) OVER (
                PARTITION BY k.flow, k.connection, k.part, k.node, k.run, k.packet
                ORDER BY k.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) <> k.mark_before AS mark_changed,
            h.with_request - CASE WHEN h.has_request THEN 1 ELSE 0 END = 0 AND k.stage = 'save' AND k.reason = {@mark-conflict}
            AND max(k.reason = {@from-node}) OVER (
                PARTITION BY k.flow, k.connection, k.part, k.node, k.run, k.packet
            ) AS ct_mark_changed,
            k.stage <> 'spoof' AND k.reason = {@mark-conflict} AND k.ct_mark_node = '' AND k.ct_mark_after IS NULL
            AND k.ct_mark_before IS NOT NULL AS is_nobodys
        FROM kept AS k
        JOIN hard AS h ON k.flow = h.flow AND k.connection = h.connection AND k.part = h.part
    ) AS compared
    WHERE coalesce(mark_changed, false) OR ct_mark_changed OR is_nobodys
    GROUP BY flow, connection, part
),
dropped AS (
    SELECT DISTINCT flow, connection, part, 1 AS yes
    FROM (
        SELECT
            flow, connection, part, node, run, stage,
            max(CASE WHEN NOT accepted AND reason <> {@mark-conflict} THEN place END) AS last_drop,
            max(CASE WHEN accepted THEN place END) AS last_accept
        FROM kept
        WHERE NOT is_error
        GROUP BY flow, connection, part, node, run, stage
    ) AS decided
    WHERE last_drop > coalesce(last_accept, -1)
),

-- ICMP errors. That a packet was too big is no fault if its sender went on with shorter ones, which arrived.
errors AS MATERIALIZED (
    SELECT
        *,
        src NOT LIKE '%:%' AS is_v4,
        CASE
            WHEN src NOT LIKE '%:%' THEN NOT (icmp_type = 11 AND icmp_code = 0 OR icmp_type = 5)
            ELSE NOT (icmp_type = 3 AND icmp_code = 0)
        END AS is_fault,
        CASE WHEN src NOT LIKE '%:%' THEN icmp_type = 3 AND icmp_code = 4 ELSE icmp_type = 2 END AS is_too_big
    FROM kept
    WHERE is_error
),
too_big AS MATERIALIZED (SELECT DISTINCT flow, connection, part FROM errors WHERE accepted AND is_too_big),

-- Packets that are sent again and again, and none behind them.
sent_at AS MATERIALIZED (
    SELECT
        s.flow AS flow, s.connection AS connection, s.own AS own, s.node AS node, s.run AS run, s.stage AS stage, s.place AS place,
        s.syn AS syn, s.tcp_seq AS tcp_seq,
        argMax({SENT}, place) OVER (PARTITION BY s.flow, s.own, s.connection, s.node, s.run, s.stage) AS last_sent, {SENT} AS this_sent
    FROM seen AS s
    WHERE s.asks AND s.part = 0 AND (
        (s.flow, s.own) IN (
            SELECT flow, own FROM seen
            WHERE asks AND part = 0 AND stage IN ('dnat', 'spoof')
            GROUP BY flow, own, node, run, stage, tcp_seq, len, syn HAVING count(*) >= {OFTEN}
        )
        OR (s.flow, s.connection) IN (SELECT flow, connection FROM too_big)
    )
),
sent AS MATERIALIZED (
    SELECT a.flow AS flow, a.connection AS connection, a.stage AS stage, max(a.syn) AS syn, max(a.tcp_seq) AS tcp_seq,
        count(DISTINCT a.place) AS times
    FROM sent_at AS a
    JOIN (
        SELECT flow, own, node, run, stage, max(CASE WHEN this_sent <> last_sent THEN place ELSE -1 END) AS last_other
        FROM sent_at GROUP BY flow, own, node, run, stage
    ) AS o ON a.flow = o.flow AND a.own = o.own AND a.node = o.node AND a.run = o.run AND a.stage = o.stage
    WHERE a.place > o.last_other
    GROUP BY a.flow, a.connection, a.own, a.node, a.run, a.stage
),
stalled AS (
    SELECT DISTINCT flow, connection, 0 AS part, 1 AS yes
    FROM sent
    WHERE times >= {OFTEN} AND (stage = 'dnat' AND NOT syn OR stage = 'spoof')
),

acknowledged AS (
    SELECT DISTINCT flow, connection, stage = 'spoof' AS of_spoof, tcp_ack
    FROM seen
    WHERE ack AND NOT rst AND tcp_ack IS NOT NULL AND (flow, connection) IN (SELECT flow, connection FROM too_big)
),
covered AS (
    SELECT flow, connection, is_of_guest, min(is_covered) AS all_covered
    FROM (
        SELECT
            s.flow AS flow, s.connection AS connection, s.stage = 'spoof' AS is_of_guest, s.stage AS stage, s.tcp_seq AS tcp_seq,
            max(NOT s.syn AND (a.tcp_ack - s.tcp_seq + 4294967296) % 4294967296 BETWEEN 1 AND 2147483647
                AND a.of_spoof <> (s.stage = 'spoof')) AS is_covered
        FROM sent AS s
        JOIN acknowledged AS a ON s.flow = a.flow AND s.connection = a.connection
        WHERE s.stage IN ('dnat', 'spoof')
        GROUP BY s.flow, s.connection, s.stage, s.tcp_seq
    ) AS of_sent
    GROUP BY flow, connection, is_of_guest
),
-- Without acknowledgements a reply has to do: to datagrams that are not too long, and came later.
shorter AS (
    SELECT e.flow AS flow, e.connection AS connection, e.part AS part, e.node AS node, e.place AS place, 1 AS yes
    FROM errors AS e
    JOIN kept AS k ON e.flow = k.flow AND e.connection = k.connection AND e.part = k.part AND e.node = k.node AND e.run = k.run
    WHERE e.is_too_big AND e.accepted AND NOT k.is_error AND k.place > e.place
        AND k.stage = CASE WHEN e.stage = 'spoof' THEN 'dnat' ELSE 'spoof' END
        AND (e.icmp_mtu IS NULL OR k.len <= e.icmp_mtu)
    GROUP BY e.flow, e.connection, e.part, e.node, e.place
),
judged_errors AS (
    SELECT
        e.flow AS flow, e.connection AS connection, e.part AS part,
        max(e.accepted AND e.is_fault AND NOT (e.is_too_big AND CASE
            WHEN e.proto = 'tcp' THEN coalesce(c.all_covered, false)
            ELSE h.replied AND coalesce(s.yes, 0) = 1
        END)) AS is_rejected,
        argMin(CASE WHEN e.accepted AND e.stage = 'spoof' THEN e.quoted_dst END, e.place) AS quoted_dst
    FROM errors AS e
    JOIN hard AS h ON e.flow = h.flow AND e.connection = h.connection AND e.part = h.part
    LEFT JOIN covered AS c ON e.flow = c.flow AND e.connection = c.connection AND (e.stage <> 'spoof') = c.is_of_guest
    LEFT JOIN shorter AS s
        ON e.flow = s.flow AND e.connection = s.connection AND e.part = s.part AND e.node = s.node AND e.place = s.place
    GROUP BY e.flow, e.connection, e.part
),

events_of_hard AS (
    SELECT
        k.flow AS flow, k.connection AS connection, k.part AS part,
        max(k.reason = {@mark-conflict}) AS has_conflict,
        argMin(k.stage, k.place) AS first_stage
    FROM kept AS k
    GROUP BY k.flow, k.connection, k.part
),
-- A guest that has a public address for itself began it.
begun AS (
    SELECT flow, connection, part, time, accepted
    FROM (
        SELECT
            flow, connection, part, time, accepted,
            row_number() OVER (PARTITION BY flow, connection, part ORDER BY place) AS nth
        FROM kept
        WHERE reason = {@one-to-one} AND (proto <> 'tcp' OR syn AND NOT ack)
    ) AS one_to_one
    WHERE nth = 1
),

