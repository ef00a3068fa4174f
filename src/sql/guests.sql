-- The request: the packet that begins the connection, at dnat; of one whose beginning was not seen, the first.
requests AS MATERIALIZED (
    SELECT
        flow, connection, part, any_value(guest) AS guest, argMin(node, nth) AS entry_node, argMin(time, nth) AS asked_at,
        argMin(outside, nth) AS original_dst, argMin(outside_port, nth) AS original_port, argMin(service, nth) AS service,
        argMin(is_translated, nth) AS is_translated, argMin(begins, nth) AS begins, 1 AS is_there
    FROM (
        SELECT *, syn AND NOT ack AS begins, CASE WHEN syn AND NOT ack THEN place ELSE place + 4611686018427387904 END AS nth
        FROM seen
        WHERE stage = 'dnat' AND NOT is_error
    ) AS asking
    GROUP BY flow, connection, part
),

-- Where guests live: frames of the guest itself come to its node by a port that is no pipe.
ports AS MATERIALIZED (
    SELECT node, phys_in, max(reason = {@not-from-pipe}) AS is_no_pipe, max(reason <> {@not-from-pipe}) AS is_pipe
    FROM events
    WHERE stage = 'tag' AND phys_in <> ''
    GROUP BY node, phys_in
),
tagged AS MATERIALIZED (
    SELECT flow, connection, part, guest, node FROM seen WHERE stage = 'tag' AND NOT is_one_more GROUP BY flow, connection, part, guest, node
),
ways AS MATERIALIZED (
    SELECT guest, node, count(*) AS ways
    FROM (
        SELECT guest, node FROM tagged
        UNION ALL
        SELECT r.guest AS guest, r.entry_node AS node
        FROM requests AS r
        LEFT JOIN (SELECT DISTINCT flow, connection, part, 1 AS yes FROM tagged) AS t
            ON r.flow = t.flow AND r.connection = t.connection AND r.part = t.part
        WHERE r.is_translated AND coalesce(t.yes, 0) = 0
    ) AS passed
    GROUP BY guest, node
),
-- Nodes that send all requests to a guest on to another node.
sends_on AS (
    SELECT guest, node, 1 AS yes
    FROM (
        SELECT r.guest AS guest, r.entry_node AS node, r.flow AS flow, r.connection AS connection, r.part AS part,
            max(coalesce(t.node, r.entry_node) <> r.entry_node) AS is_sent_on
        FROM requests AS r
        LEFT JOIN (SELECT flow, connection, part, {nullable}(node) AS node FROM tagged) AS t
            ON r.flow = t.flow AND r.connection = t.connection AND r.part = t.part
        WHERE r.is_translated
        GROUP BY r.guest, r.entry_node, r.flow, r.connection, r.part
    ) AS entered
    GROUP BY guest, node
    HAVING min(is_sent_on)
),
frames AS MATERIALIZED (
    SELECT
        f.guest AS guest, f.node AS node, f.port AS phys_in,
        coalesce(p.is_pipe, false) AS by_pipe,
        coalesce(p.is_no_pipe, false) AS is_own,
        coalesce(p.is_pipe, false) OR (coalesce(s.yes, 0) = 1 AND NOT coalesce(p.is_no_pipe, false)) AS is_stray
    FROM (
        SELECT DISTINCT src AS guest, node, coalesce(phys_in, '') AS port
        FROM events
        WHERE src <> '' AND (
            stage = 'tag' AND reason = {@not-from-pipe}
            OR stage = 'spoof' AND reason <> {@not-from-guest} AND inner_src IS NULL
        )
    ) AS f
    LEFT JOIN ports AS p ON f.node = p.node AND f.port = p.phys_in
    LEFT JOIN sends_on AS s ON f.guest = s.guest AND f.node = s.node
),
guests AS (
    SELECT
        guest AS of_guest,
        CASE WHEN min(CASE WHEN is_own THEN node END) = max(CASE WHEN is_own THEN node END)
            THEN min(CASE WHEN is_own THEN node END) END AS own_node,
        CASE WHEN min(node) = max(node) THEN min(node) END AS any_node
    FROM frames
    WHERE NOT is_stray
    GROUP BY guest
),
-- A guest may have moved: the frames of this connection come first.
frames_here AS (
    SELECT
        s.flow AS flow, s.connection AS connection, s.part AS part,
        min(CASE WHEN f.is_own THEN s.node END) AS sure_node,
        CASE WHEN min(s.node) = max(s.node) THEN min(s.node) END AS here_node
    FROM seen AS s
    JOIN frames AS f ON s.guest = f.guest AND s.node = f.node AND s.phys_in = f.phys_in
    WHERE s.is_from_guest AND NOT f.is_stray
    GROUP BY s.flow, s.connection, s.part
),

-- One line for each connection.
base AS MATERIALIZED (
    SELECT
        a.*, n.name AS name, n.proto AS proto, n.client AS client, n.client_port AS client_port, n.guest_port AS guest_port,
        r.entry_node AS entry_node, r.asked_at AS asked_at, r.original_dst AS original_dst, r.original_port AS original_port,
        r.is_translated AS is_translated, r.begins AS begins, r.service AS service,
        coalesce(r.is_there, 0) = 1 AS has_request,
        CASE
            WHEN coalesce(r.is_there, 0) = 0 OR r.is_translated
            THEN coalesce(h.sure_node, g.own_node, h.here_node, g.any_node)
        END AS home,
        sum(coalesce(r.is_there, 0)) OVER (PARTITION BY flow) AS with_request
    FROM (
        SELECT
            flow, connection, part, any_value(guest) AS guest, count(*) AS events,
            min(time) AS first_time, max(time) AS last_time, {list_nodes} AS nodes,
            max(is_reply) AS replied, min(rst OR NOT is_reply) AS only_resets, max(is_error) AS has_error,
            max(reason = {@one-to-one}) AS one_to_one, min(reason = {@unmarked}) AS unmarked,
            max(stage = 'spoof' AND syn AND NOT ack) AS begun_at_spoof,
            min(place) AS first_at
        FROM seen
        GROUP BY flow, connection, part
    ) AS a
    JOIN (SELECT number, name, proto, client, client_port, guest_port FROM flows) AS n ON a.flow = n.number
    {left a r | {nullable}(entry_node) AS entry_node, {nullable}(asked_at) AS asked_at, original_dst, original_port, is_translated, begins, {nullable}(service) AS service, is_there | requests}
    {left a h | sure_node, here_node | frames_here}
    LEFT JOIN guests AS g ON a.guest = g.of_guest
),

