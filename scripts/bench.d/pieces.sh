# The pieces of dunnat by themselves, once: instructions per packet, and the time of a decision by the size of the cluster.
# shellcheck shell=bash

PIECES=$WORK/pieces.tsv # one line a figure: what, value
PARTS=$WORK/parts.txt   # where the instructions go

measure_pieces() {
    : >"$PARTS"
    printf '  %-14s' pieces
    show instructions
    if "$ROOT/bench/instructions" --parts >"$WORK/instructions.txt" 2>"$WORK/instructions.log"; then
        piece instructions "$(head -n 1 "$WORK/instructions.txt" | cut -d ' ' -f 1)"
        tail -n +2 "$WORK/instructions.txt" >"$PARTS"
        if "$ROOT/bench/instructions" --looked-at >"$WORK/looked_at.txt" 2>>"$WORK/instructions.log"; then
            piece looked_at "$(head -n 1 "$WORK/looked_at.txt" | cut -d ' ' -f 1)"
        fi
    else
        show "${RED}- (see ${WORK#"$ROOT/"}/instructions.log)${PLAIN}"
    fi
    show "per packet; decision"
    local nodes services
    if (cd "$ROOT" && quietly criterion cargo bench --bench pieces -- --noplot --warm-up-time 0.5 --measurement-time 2 decision); then
        for nodes in 2 64 4096; do
            for services in 1 100 10000; do
                piece "decision.$nodes.$services" "$(jq .median.point_estimate \
                    "${CARGO_TARGET_DIR:-$ROOT/target}/criterion/decision/$nodes nodes $services services/new/estimates.json")"
            done
        done
    else
        show "${RED}- (see ${WORK#"$ROOT/"}/criterion.log)${PLAIN}"
    fi
    show "ns"
    echo
}

piece() {
    printf '%s\t%s\n' "$1" "$2" >>"$PIECES"
    show "$(printf %.0f "$2")"
}
