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
# The load tester is built, unless $LOAD_TESTER is one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/load-test.sh
. scripts/load-test.sh

usage() {
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

pairs=3 load_config=/dev/null
while getopts 'n:l:c:' option; do
    case $option in
    n) pairs=$OPTARG ;;
    l) load_config=$OPTARG ;;
    c) tracker_cpu=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 5 ] || usage
protocol=$1
shift
[ -r "$load_config" ] || fail "cannot read $load_config"
TRACKER=$1 CONFIG=$2 prepare "$protocol"

# Usage: run TRACKER CONFIG
# Leaves the JSON report of one run in $work/report.
run() {
    TRACKER=$1 CONFIG=$2 TRACKER_ARGS='' start_tracker "$protocol" >"$work/tracker.log" 2>&1
    sleep 1
    kill -0 "$tracker_pid" 2>/dev/null || fail "$1 has ended: $(cat "$work/tracker.log")"
    # Top-level keys come first in TOML, whatever the given file holds.
    { echo "tracker_pid = $tracker_pid" && echo 'print_json = true' && cat "$load_config"; } \
        >"$work/tester.toml"
    start_tester "$protocol" >"$work/report"
    stop_processes
    sleep 1 # The kernel may hold the port a little longer (io_uring).
}

# Usage: figures TRACKER CONFIG
# CPU µs per answer of the tracker, its system part, the answers per second, and those lost.
figures() {
    run "$@"
    local process all
    process=$(sed -n 's/.*"tracker_process": *{\([^}]*\)}.*/\1/p' "$work/report")
    all=$(sed -n 's/.*"all": *{\([^{]*\){.*/\1/p' "$work/report")
    cpu=$(sed -n 's/.*"cpu_micros_per_answer": *\([0-9.]*\).*/\1/p' <<<"$process")
    system=$(sed -n 's/.*"system_micros_per_answer": *\([0-9.]*\).*/\1/p' <<<"$process")
    rate=$(sed -n 's/.*"answers_per_second": *\([0-9.]*\).*/\1/p' <<<"$all")
    lost=$(sed -n 's/.*"lost": *\([0-9]*\).*/\1/p' <<<"$all")
    # The tester warns, and leaves them out, if it could not read them in time.
    [ -n "$cpu" ] || fail "no CPU times: longer runs (duration_seconds) or an idler machine help"
}

# Usage: print_figures PAIR A-OR-B
print_figures() {
    printf '%-5s %-2s %12.3f %12.3f %12.0f %6d\n' "$1" "$2" "$cpu" "$system" "$rate" "$lost"
}

printf '%-5s %-2s %12s %12s %12s %6s\n' pair of 'CPU µs/answer' 'in kernel' 'answers/s' lost
for pair in $(seq "$pairs"); do
    figures "$1" "$2"
    print_figures "$pair" A
    a=$cpu
    figures "$3" "$4"
    print_figures "$pair" B
    ratio=$(awk -v a="$a" -v b="$cpu" 'BEGIN { printf "%.3f", a / b }')
    echo "$ratio" >>"$work/ratios"
    echo "pair $pair: A / B = $ratio"
done
sort -n "$work/ratios" | awk '{ r[NR] = $1 } END {
    m = NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2
    printf "median A / B = %.3f (of %d pairs, %s to %s)\n", m, NR, r[1], r[NR] }'
