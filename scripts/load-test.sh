# shellcheck shell=bash
# Source this: runs a tracker on one processor core and a load tester on another, so that what is
# measured is the one and not the other.
#
# Environment:
#   TRACKER       another tracker's program, started with "-c CONFIG"
#   CONFIG        its configuration file; or that of our tracker, instead of a generated one
#   TRACKER_ARGS  its arguments, if they are others than "-c CONFIG"
#   PORT          where the tracker listens (3969)
#   TRACKER_CPU   processor cores of the tracker, as taskset takes them (0)
#   TESTER_CPU    processor cores of the tester (1)

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# shellcheck disable=SC2034 # For the script that sources this.
port=${PORT:-3969}
tracker_cpu=${TRACKER_CPU:-0}
tester_cpu=${TESTER_CPU:-1}
target=${CARGO_TARGET_DIR:-target}
work="" tracker_pid="" tester_pid=""

# Usage: prepare PROTOCOL
# Builds tracker and tester, and makes a folder for configuration files: $work.
prepare() {
    [ -z "${TRACKER:-}" ] || [ -n "${CONFIG:-}${TRACKER_ARGS:-}" ] ||
        fail "TRACKER needs CONFIG or TRACKER_ARGS"
    command -v taskset >/dev/null || fail "needs taskset (package util-linux)"
    local cpu
    for cpu in "$tracker_cpu" "$tester_cpu"; do
        taskset -c "$cpu" true || fail "no core $cpu: set TRACKER_CPU and TESTER_CPU"
    done
    local packages=(-p "aquatic_$1_load_test")
    [ -n "${TRACKER:-}" ] || packages+=(-p "aquatic_$1")
    cargo build --quiet --release "${packages[@]}"
    work=$(mktemp -d)
    trap stop EXIT
}

# Redefine it for what else has to be undone at the end.
restore() { :; }

stop() {
    local pid
    for pid in $tester_pid $tracker_pid; do
        { kill "$pid" && wait "$pid"; } 2>/dev/null || true
    done
    restore
    rm -rf "$work"
}

# Usage: start_tracker PROTOCOL
# Our tracker's configuration is $work/tracker.toml, unless $CONFIG is another one.
start_tracker() {
    local arguments
    IFS=' ' read -r -a arguments <<<"${TRACKER_ARGS:--c ${CONFIG:-$work/tracker.toml}}"
    taskset -c "$tracker_cpu" "${TRACKER:-$target/release/aquatic_$1}" "${arguments[@]}" &
    tracker_pid=$!
}

# Usage: run_tester PROTOCOL
# The tester's configuration is $work/tester.toml.
run_tester() {
    taskset -c "$tester_cpu" "$target/release/aquatic_$1_load_test" -c "$work/tester.toml" &
    tester_pid=$!
    wait "$tester_pid"
}
