#!/usr/bin/env bash
# Compares two trackers under the same load, in one run: A B A B ..., each pinned to CPU 0 with
# the load tester on CPU 1, and prints the tracker's CPU time per answer and the ratio A / B, pair
# by pair and as a median. Absolute figures of a shared machine mean little; such a ratio means
# much.
#
# usage: scripts/compare.sh [-n PAIRS] [-l LOAD_CONFIG] [-c CPUS] PROTOCOL A A_CONFIG B B_CONFIG
#
#   PROTOCOL      udp, http or ws: what the load tester speaks
#   A, B          tracker binaries that take -c CONFIG
#   A_CONFIG ...  their configuration files; both listen where the load is sent to
#   -n PAIRS      pairs of runs (default 3)
#   -l FILE       configuration of the load tester (default: its own default)
#   -c CPUS       CPUs of the tracker, as for taskset (default 0)
#
# The load tester is target/release/aquatic_PROTOCOL_load_test, or $LOAD_TESTER.
set -euo pipefail
cd "$(dirname "$0")/.."

pairs=3 load_config='' tracker_cpus=0
while getopts 'n:l:c:' option; do
    case $option in
        n) pairs=$OPTARG ;;
        l) load_config=$OPTARG ;;
        c) tracker_cpus=$OPTARG ;;
        *) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 5 ] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
protocol=$1
shift
tester=${LOAD_TESTER:-target/release/aquatic_${protocol}_load_test}
[ -x "$tester" ] || cargo build --release -p "aquatic_${protocol}_load_test"

folder=$(mktemp -d)
tracker=''
finish() {
    [ -z "$tracker" ] || kill "$tracker" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

# Prints the JSON report of one run of the tracker $1 with the configuration $2.
run() {
    taskset -c "$tracker_cpus" "$1" -c "$2" >"$folder/tracker.log" 2>&1 &
    tracker=$!
    sleep 1
    kill -0 "$tracker" 2>/dev/null || { cat "$folder/tracker.log" >&2; exit 1; }
    # Top-level keys come first in TOML, whatever the given file holds.
    { echo "tracker_pid = $tracker"; echo 'print_json = true'; cat "${load_config:-/dev/null}"; } \
        >"$folder/load.toml"
    taskset -c 1 "$tester" -c "$folder/load.toml"
    kill "$tracker"
    wait "$tracker" 2>/dev/null || true
    tracker=''
    sleep 1 # The kernel may hold the port a little longer (io_uring).
}

# CPU µs per answer of the tracker, its system part, the answers per second, and those lost.
figures() {
    run "$1" "$2" >"$folder/report"
    local process
    process=$(sed -n 's/.*"tracker_process": *{\([^}]*\)}.*/\1/p' "$folder/report")
    local cpu system
    cpu=$(sed -n 's/.*"cpu_micros_per_answer": *\([0-9.]*\).*/\1/p' <<<"$process")
    system=$(sed -n 's/.*"system_micros_per_answer": *\([0-9.]*\).*/\1/p' <<<"$process")
    local all
    all=$(sed -n 's/.*"all": *{\([^{]*\){.*/\1/p' "$folder/report")
    local rate lost
    rate=$(sed -n 's/.*"answers_per_second": *\([0-9.]*\).*/\1/p' <<<"$all")
    lost=$(sed -n 's/.*"lost": *\([0-9]*\).*/\1/p' <<<"$all")
    printf '%.3f %.3f %.0f %d\n' "$cpu" "$system" "$rate" "$lost"
}

printf '%-5s %-2s %12s %12s %12s %6s\n' pair of 'CPU µs/answer' 'in kernel' 'answers/s' lost
for pair in $(seq "$pairs"); do
    read -r a a_system a_rate a_lost < <(figures "$1" "$2")
    printf '%-5s %-2s %12s %12s %12s %6s\n' "$pair" A "$a" "$a_system" "$a_rate" "$a_lost"
    read -r b b_system b_rate b_lost < <(figures "$3" "$4")
    printf '%-5s %-2s %12s %12s %12s %6s\n' "$pair" B "$b" "$b_system" "$b_rate" "$b_lost"
    ratio=$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.3f", a / b }')
    echo "$ratio" >>"$folder/ratios"
    echo "pair $pair: A / B = $ratio"
done
sort -n "$folder/ratios" | awk '{ r[NR] = $1 } END {
    m = NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2
    printf "median A / B = %.3f (of %d pairs, %s to %s)\n", m, NR, r[1], r[NR] }'
