# Building what is measured and what measures; what cannot be built does not take part, and the results say so.
# shellcheck shell=bash

# What else runs takes part in every figure.
warn_if_busy() {
    local load
    read -r load _ </proc/loadavg
    if awk -v load="$load" 'BEGIN { exit !(load > 0.5) }'; then
        warn "this machine is busy (load $load): the figures will be of little use"
    fi
}

need_tools() {
    local tool missing=() tools=(cc valgrind iperf3 wrk jq python3 curl nft conntrack)
    if has profile; then tools+=(perf); fi
    for tool in "${tools[@]}"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} == 0)) || die "not installed: ${missing[*]}. Run scripts/setup, and: apt install gcc valgrind iperf3 wrk linux-perf python3-venv python3-dev libnetfilter-queue-dev"
}

wanted() { [[ " ${PEERS[*]} " == *" $1 "* ]]; }
# absent PEER REASON
absent() { printf '%s\t%s\n' "$1" "$2" >>"$ABSENT"; }

# quietly LOG COMMAND...: the log is for when it fails
quietly() {
    local log=$WORK/$1.log
    shift
    "$@" >"$log" 2>&1
}

compile() {
    local name=$1
    shift
    quietly "cc-$name" cc -O2 -Wall -Wextra -o "$WORK/$name" "$ROOT/bench/peers/$name.c" "$@"
}

build_all() {
    local peer
    say "building"
    # Whoever names another program has built it.
    if [[ $DUNNAT == "$ROOT/target/release/dunnat" ]]; then
        (cd "$ROOT" && quietly cargo cargo build --release) || die "dunnat does not build: $WORK/cargo.log"
    fi
    compile udp_rate -pthread || die "udp_rate.c does not compile: $WORK/cc-udp_rate.log"
    compile connections -pthread || die "connections.c does not compile: $WORK/cc-connections.log"

    if wanted floor || wanted floor-payload; then
        compile floor || for peer in floor floor-payload; do absent "$peer" "floor.c does not compile"; done
    fi
    if wanted lnfq; then
        compile lnfq -lnetfilter_queue || absent lnfq "lnfq.c does not compile; the package libnetfilter-queue-dev has what it needs"
    fi
    if wanted nfq-plain; then
        (cd "$ROOT" && quietly cargo-example cargo build --release --example nfq_plain) || absent nfq-plain "its example does not build"
    fi
    if wanted scapy; then build_python || absent scapy "NetfilterQueue and Scapy could not be installed"; fi

    RUN_HELP=$("$DUNNAT" run --help)
    RULES_HELP=$("$DUNNAT" rules --help)
    if [[ $RUN_HELP != *--backend* ]]; then
        if wanted dunnat; then absent dunnat "this dunnat has only the nfq backend"; fi
    fi
    if [[ $RUN_HELP != *--rewrite* ]]; then
        if wanted dunnat-kernel; then absent dunnat-kernel "this dunnat has no --rewrite kernel"; fi
    fi
}

# Installed once, into a directory of its own.
build_python() {
    if "$WORK/venv/bin/python3" -c 'import netfilterqueue, scapy' 2>/dev/null; then return; fi
    rm -rf "$WORK/venv"
    quietly venv python3 -m venv "$WORK/venv" &&
        quietly pip "$WORK/venv/bin/pip" install --quiet NetfilterQueue==1.1.0 'scapy>=2.5,<3'
}

# What the results say about the machine: one line a fact.
about_this_run() {
    fact() { printf '%s\t%s\n' "$1" "$2"; }
    fact date "$(date -u +%F)"
    fact processor "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    fact memory "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    fact kernel "$(uname -r)"
    fact system "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)"
    fact dunnat "$("$DUNNAT" --version) $(git -C "$ROOT" describe --always --dirty 2>/dev/null || true)"
    fact libnetfilter_queue "$(dpkg-query -W -f '${Version}' libnetfilter-queue-dev 2>/dev/null || true)"
    if [[ -x $WORK/venv/bin/pip ]]; then
        fact Python "$("$WORK/venv/bin/python3" --version | cut -d ' ' -f 2), $("$WORK/venv/bin/pip" freeze 2>/dev/null | tr '\n' ' ')"
    fi
    fact nfq "$(sed -n '/^name = "nfq"$/{n;s/version = "\(.*\)"/\1/p}' "$ROOT/Cargo.lock")"
    fact tools "$(iperf3 --version | head -n 1 | cut -d ' ' -f 1,2), $(wrk --version 2>&1 | head -n 1 | cut -d ' ' -f 1,2), $(cc --version | head -n 1), $(nft --version)"
    fact rounds "$ROUNDS"
    fact quick "$QUICK"
    fact workers "$WORKERS"
    fact seconds "$((SECONDS - STARTED))"
    fact load "$LOAD_BEFORE"
}
LOAD_BEFORE=$(cut -d ' ' -f 1-3 /proc/loadavg)
