-- What the kernel has carried: of several connections of a flow it is the one's that had begun last on that node.
carried AS MATERIALIZED (
    SELECT DISTINCT node, run, stage, carried_by, carried_until, carried_entry, carried_flow, carried_back
    FROM (
        SELECT
            carried_node AS node, run, carried_stage AS stage, carried_by, carried_until, coalesce(carried_entry, '') AS carried_entry,
            carried_flow, carried_back
        FROM events
        WHERE carried_flow <> ''
    ) AS told
),
carried_of AS MATERIALIZED (
    SELECT DISTINCT c.*, b.of_flow AS flow
    FROM carried AS c
    JOIN (
        SELECT flow AS of_flow, name AS wanted, 'other' AS place FROM base
        UNION ALL
        SELECT flow AS of_flow, {original} AS wanted, 'dnat' AS place FROM base WHERE has_request
    ) AS b ON b.wanted = CASE WHEN c.stage = 'spoof' THEN c.carried_back ELSE c.carried_flow END
    WHERE (b.place = 'dnat') = (c.stage = 'dnat')
),
carried_here AS (
    SELECT flow, connection, part, 1 AS yes, argMin(CASE WHEN stage = 'spoof' AND (carried_entry = '' OR carried_entry = entry_node) THEN node END, carried_until) AS replied_on
    FROM (
        SELECT
            c.flow AS flow, c.node AS node, c.stage AS stage, c.carried_until AS carried_until, c.carried_entry AS carried_entry,
            b.connection AS connection, b.part AS part, b.entry_node AS entry_node,
            row_number() OVER (
                PARTITION BY c.flow, c.node, c.run, c.stage, c.carried_by, c.carried_flow, c.carried_until
                ORDER BY CASE WHEN t.began <= c.carried_until THEN 1 ELSE 0 END DESC,
                    CASE WHEN t.began <= c.carried_until THEN t.began END DESC, b.first_at DESC
            ) AS nth
        FROM carried_of AS c
        JOIN base AS b ON c.flow = b.flow
        LEFT JOIN (
            SELECT flow, connection, part, node, {nullable}(min(time)) AS began
            FROM seen WHERE flow IN (SELECT flow FROM carried_of) GROUP BY flow, connection, part, node
        ) AS t ON b.flow = t.flow AND b.connection = t.connection AND b.part = t.part AND c.node = t.node
    ) AS assigned
    WHERE nth = 1
    GROUP BY flow, connection, part
),

-- What rules of others have dropped (`dunnat trace --kernel`).
drops AS MATERIALIZED (
    SELECT
        rule_node AS node, rule_packet, rule_back, min(rule_time) AS since, argMin(rule_hook, rule_time) AS hook,
        argMin(rule_asks, rule_time) AS asks, any_value(rule_proto) AS proto, any_value(rule_dport) AS dport,
        any_value(rule_src) AS src, any_value(rule_sport) AS sport, any_value(rule_dst) AS dst
    FROM events
    WHERE rule_packet <> '' AND NOT rule_is_ours AND rule_verdict = 'drop' AND rule_node <> ''
    GROUP BY rule_node, rule_packet, rule_back, rule_key
),
stopped AS (
    SELECT flow, connection, part, 1 AS yes
    FROM (
        SELECT
            h.flow AS flow, h.connection AS connection, h.part AS part, d.node AS node, d.since AS since,
            max(coalesce(k.time > d.since AND d.hook NOT IN ('postrouting', 'egress'), false)) AS is_passed
        FROM (
            SELECT flow, connection, part, name AS wanted FROM hard
            UNION ALL
            SELECT flow, connection, part, {original} AS wanted FROM hard WHERE has_request
        ) AS h
        JOIN (
            SELECT node, since, hook, rule_packet AS met FROM drops UNION ALL SELECT node, since, hook, rule_back AS met FROM drops
        ) AS d ON h.wanted = d.met
        LEFT JOIN (SELECT flow, connection, part, node, {nullable}(max(time)) AS time FROM kept WHERE stage = 'save' GROUP BY flow, connection, part, node) AS k
            ON h.flow = k.flow AND h.connection = k.connection AND h.part = k.part AND d.node = k.node
        GROUP BY h.flow, h.connection, h.part, d.node, d.since, d.hook
    ) AS met
    WHERE NOT is_passed
    GROUP BY flow, connection, part
),
known AS (
    SELECT name AS met FROM base
    UNION ALL
    SELECT {original} AS met FROM base WHERE has_request
),
services AS (
    SELECT DISTINCT proto AS service_proto, dport AS service_port
    FROM events
    WHERE stage = 'dnat' AND inner_src IS NULL AND flow <> '' AND (reason = {@service} OR coalesce(service, '') <> '' AND new_src IS NOT NULL)
),
-- Requests that a rule dropped before any decision was made about them.
never_begun AS (
    SELECT d.*
    FROM drops AS d
    JOIN services AS s ON d.proto = s.service_proto AND coalesce(d.dport, -1) = s.service_port
    WHERE d.asks AND d.rule_packet NOT IN (SELECT met FROM known) AND d.rule_back NOT IN (SELECT met FROM known)
),

joined AS (
    SELECT
        b.*,
        coalesce(u.yes, 0) = 1 AS is_unknown,
        n.is_passed AS not_kept_passed,
        coalesce(mc.yes, 0) = 1 AS mark_changed,
        coalesce(d.yes, 0) = 1 AS is_dropped,
        coalesce(st.yes, 0) = 1 AS is_stalled,
        coalesce(je.is_rejected, false) AS is_rejected, je.quoted_dst AS quoted_dst,
        coalesce(eh.has_conflict, false) AS has_conflict, coalesce(eh.first_stage, '') AS first_stage,
        coalesce(ca.yes, 0) = 1 AS is_carried, ca.replied_on AS carried_on,
        coalesce(so.yes, 0) = 1 AS is_stopped,
        coalesce(bg.accepted, false) AND (b.proto = 'tcp' OR NOT coalesce(b.asked_at < bg.time, false)) AS begun_by_guest,
        coalesce(f.has_wrong_port, false) AS has_wrong_port,
        f.node AS reply_node, coalesce(f.is_stray, false) AS reply_strayed, coalesce(f.accepts, false) AS reply_accepts,
        f.wrong_src AS wrong_src, coalesce(f.wrong_by_pipe, false) AS wrong_by_pipe, coalesce(f.wrong_reason, '') AS wrong_reason,
        coalesce(o.yes, 0) = 1 AS is_anothers
    FROM base AS b
    {left b u | yes | unknown_sender}
    {left b n | {nullable}(is_passed) AS is_passed | not_kept}
    {left b mc | yes | marks_changed}
    {left b d | yes | dropped}
    {left b st | yes | stalled}
    {left b je | is_rejected, quoted_dst | judged_errors}
    {left b eh | has_conflict, first_stage | events_of_hard}
    {left b ca | yes, replied_on | carried_here}
    {left b so | yes | stopped}
    {left b bg | accepted, time | begun}
    {left b f | {nullable}(node) AS node, is_stray, accepts, has_wrong_port, wrong_src, wrong_by_pipe, wrong_reason | replies}
    LEFT JOIN (SELECT DISTINCT flow AS of_flow, original_dst AS called, 1 AS yes FROM requests) AS o
        ON flow = o.of_flow AND f.wrong_src = o.called
),
judged AS (
    SELECT *, CASE
        WHEN begun_by_guest THEN {outbound}
        -- No trace has the request.
        WHEN NOT has_request AND unmarked AND (begun_at_spoof AND proto = 'tcp' OR proto <> 'tcp' AND first_stage = 'spoof') THEN {outbound}
        WHEN NOT has_request AND unmarked AND reply_accepts THEN {no-ct-mark}
        WHEN NOT has_request AND is_stopped AND NOT replied THEN {no-reply}
        WHEN NOT has_request THEN {no-request}
        -- The source of the replies has to be the original destination.
        WHEN wrong_src <> guest AND is_anothers THEN {mark-conflict}
        WHEN wrong_src <> guest THEN {wrong-address}
        WHEN wrong_src IS NOT NULL AND NOT wrong_by_pipe AND wrong_reason <> {@unknown-tag} AND NOT mark_changed AND NOT is_unknown
            AND NOT coalesce(not_kept_passed, true) THEN {no-reply}
        WHEN wrong_src IS NOT NULL THEN {no-ct-mark}
        WHEN has_wrong_port THEN {wrong-address}
        WHEN is_rejected THEN {rejected}
        WHEN replied AND begins AND only_resets THEN {rejected}
        -- There is no reply.
        WHEN NOT replied AND quoted_dst = original_dst THEN {icmp-error}
        WHEN NOT replied AND carried_on IS NOT NULL
            THEN CASE WHEN coalesce(home, carried_on) = entry_node THEN {local} ELSE {foreign} END
        WHEN NOT replied AND (is_dropped OR mark_changed) THEN {no-reply}
        WHEN NOT replied AND has_conflict THEN {mark-conflict}
        WHEN NOT replied AND NOT is_unknown AND coalesce(not_kept_passed, false) AND NOT is_stopped THEN {no-ct-mark}
        WHEN NOT replied THEN {no-reply}
        WHEN is_stalled AND NOT is_carried THEN {stalled}
        WHEN entry_node = coalesce(home, reply_node) AND NOT reply_strayed THEN {local}
        ELSE {foreign}
    END AS finding
    FROM joined
)
SELECT
    name AS flow, finding, finding IN ({RIGHT}) AS is_right, proto, client, client_port,
    CASE WHEN has_request THEN original_dst END AS original_dst,
    CASE WHEN has_request AND original_port >= 0 THEN original_port ELSE guest_port END AS original_port,
    CASE WHEN NOT has_request OR is_translated THEN guest END AS guest, guest_port, service, entry_node AS entry, home,
    first_time, last_time, nodes, events
FROM judged
UNION ALL
SELECT
    rule_packet AS flow, {no-reply} AS finding, false AS is_right, proto, src AS client, sport AS client_port,
    dst AS original_dst, dport AS original_port, NULL AS guest, NULL AS guest_port, NULL AS service, node AS entry, NULL AS home,
    since AS first_time, since AS last_time, {list_node} AS nodes, 0 AS events
FROM never_begun
