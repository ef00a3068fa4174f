# How the lab speaks: progress to stdout, trouble to stderr, colour only on a terminal.
# shellcheck shell=bash

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' RED='' GREEN='' YELLOW='' PLAIN=''
fi

say() { printf '%s\n' "$*"; }
warn() { printf 'lab: %s\n' "$*" >&2; }
die() {
    warn "$@"
    exit 1
}
usage_error() {
    warn "$@"
    warn "try: scripts/lab --help"
    exit 2
}

# How many times slower than a machine of today this one may be: an emulated CPU is. All that waits waits so much longer,
# and what shows the same with less (bytes, connections, lengths) does with less.
SLOW=${DUNNAT_LAB_SLOW:-1}
# sized USUALLY WHEN_SLOW
sized() { if ((SLOW > 1)); then echo "$2"; else echo "$1"; fi; }

# poll SECONDS COMMAND...: true as soon as the command is, false when the time is over.
poll() {
    local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * SLOW * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/[.,]/} < deadline)) || return 1
        sleep "$(sized 0.02 0.3)"
    done
}
