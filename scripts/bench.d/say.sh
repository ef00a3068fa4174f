# How the benchmark speaks: progress to stdout, trouble to stderr, colour only on a terminal.
# shellcheck shell=bash

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' PLAIN=''
fi

say() { printf '%s\n' "$*"; }
warn() { printf 'bench: %s\n' "$*" >&2; }
die() {
    warn "$@"
    exit 1
}
usage_error() {
    warn "$@"
    warn "try: scripts/bench --help"
    exit 2
}

# poll SECONDS COMMAND...: true as soon as the command is, false when the time is over.
poll() {
    local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/[.,]/} < deadline)) || return 1
        sleep 0.02
    done
}
