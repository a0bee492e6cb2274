# shellcheck shell=bash
# Source this: runs a tracker on one processor core and a load tester on another, so that what is
# measured is the one and not the other. See `usage_of_environment`, below, for what it can be told.
#
# To compare with another tracker, which must listen on PORT:
#
#   TRACKER=/path/to/other/aquatic_udp CONFIG=other.toml PORT=3000 scripts/run-load-test-udp.sh
#
# Figures differ from run to run: alternate between the trackers, several times, and compare ratios.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

usage_of_environment() {
    cat <<'END'

environment:
  TRACKER       another tracker's program, started with "-c CONFIG"
  CONFIG        its configuration file; or that of our tracker, instead of a generated one
  TRACKER_ARGS  its arguments, if they are others than "-c CONFIG"
  PORT          where the tracker listens (3969)
  TRACKER_CPU   processor cores of the tracker, as taskset takes them (0)
  TESTER_CPU    processor cores of the tester (1)
END
}

port=${PORT:-3969}
tracker_cpu=${TRACKER_CPU:-0}
tester_cpu=${TESTER_CPU:-1}
target=${CARGO_TARGET_DIR:-target}
work="" tracker_pid="" tester_pid=""

# Options of all load tests, those with a value and those without. Each script adds its own.
options=(--seconds --warm-up --rate --socket-workers --swarm-workers)
switches=(--ipv6 --json)
seconds=20 warm_up=5 rate=0 socket_workers=1 swarm_workers="" ipv6=false json=false

# Usage: read_options ARGUMENTS...
# The value of --some-option goes to $some_option; that of a switch becomes true.
# shellcheck disable=SC2034 # $client_ips is for the scripts that source this.
read_options() {
    local variable
    while [ $# -gt 0 ]; do
        variable=${1#--}
        variable=${variable//-/_}
        if [ "$1" = -h ] || [ "$1" = --help ]; then
            usage && usage_of_environment && exit
        elif is_one_of "$1" "${switches[@]}"; then
            printf -v "$variable" true
        elif is_one_of "$1" "${options[@]}"; then
            [ $# -ge 2 ] || fail "$1 needs a value (see --help)"
            printf -v "$variable" %s "$2"
            shift
        else
            fail "unknown option $1 (see --help)"
        fi
        shift
    done
    address=127.0.0.1 client_ips=127.0.0.1-127.0.0.4
    if [ "$ipv6" = true ]; then
        address='[::1]' client_ips=::1
    fi
}

# Usage: is_one_of WORD WORDS...
is_one_of() {
    local word
    for word in "${@:2}"; do
        [ "$word" != "$1" ] || return 0
    done
    return 1
}

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
    local packages=()
    [ -n "${TRACKER:-}" ] || packages+=(-p "aquatic_$1" --bin "aquatic_$1")
    [ -n "${LOAD_TESTER:-}" ] || packages+=(-p aquatic_load_test --bin "aquatic_$1_load_test")
    if [ ${#packages[@]} -gt 0 ]; then
        cargo build --quiet --release --locked "${packages[@]}"
    fi
    work=$(mktemp -d)
    trap stop EXIT
}

# Redefine it for what else has to be undone at the end.
restore() { :; }

stop() {
    stop_processes
    restore
    rm -rf "$work"
}

stop_processes() {
    local pid
    for pid in $tester_pid $tracker_pid; do
        { kill "$pid" && wait "$pid"; } 2>/dev/null || true
    done
    tester_pid="" tracker_pid=""
}

# Usage: start_tracker PROTOCOL [NETWORK_SETTING...]
# With $CONFIG, if there is one; otherwise with these settings of `[network]` and what was chosen.
start_tracker() {
    local program=${TRACKER:-$target/release/aquatic_$1}
    shift
    [ -n "${CONFIG:-}" ] || {
        echo "socket_workers = $socket_workers"
        [ -z "$swarm_workers" ] || echo "swarm_workers = $swarm_workers"
        printf '%s\n' '[network]' "address = [\"$address:$port\"]" "$@"
    } >"$work/tracker.toml"
    local arguments=(-c "${CONFIG:-$work/tracker.toml}")
    [ -z "${TRACKER_ARGS:-}" ] || IFS=' ' read -r -a arguments <<<"$TRACKER_ARGS"
    taskset -c "$tracker_cpu" "$program" "${arguments[@]}" &
    tracker_pid=$!
}

# Usage: start_stream_tracker PROTOCOL RUNTIME WITH_TLS
# One that serves over TCP, with a certificate made for the occasion if the last is true.
start_stream_tracker() {
    local settings=("runtime = \"$2\"")
    if [ "$3" = true ] && [ -z "${CONFIG:-}" ]; then
        scripts/gen-tls.sh "$work/tls" >/dev/null
        settings+=('enable_tls = true'
            "tls_certificate_path = \"$work/tls/ecdsa-cert.pem\""
            "tls_private_key_path = \"$work/tls/ecdsa-key.pem\"")
    fi
    start_tracker "$1" "${settings[@]}"
}

# Usage: run_tester PROTOCOL <SETTINGS
# With these settings, in TOML, and what was chosen.
run_tester() {
    {
        cat <<END
server_address = "$address:$port"
duration_seconds = $seconds
warm_up_seconds = $warm_up
rate_per_second = $rate
tracker_pid = $tracker_pid
print_json = $json
END
        cat
    } >"$work/tester.toml"
    start_tester "$1"
}

# Usage: start_tester PROTOCOL
# With $work/tester.toml. Waits for its end.
start_tester() {
    local program=${LOAD_TESTER:-$target/release/aquatic_$1_load_test}
    taskset -c "$tester_cpu" "$program" -c "$work/tester.toml" &
    tester_pid=$!
    wait "$tester_pid"
    tester_pid=""
}
