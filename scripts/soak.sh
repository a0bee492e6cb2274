#!/usr/bin/env bash
# Lets many clients use the trackers of the family on this machine for an hour, all at the same
# time; prints a row of a table for each, and which targets were missed. Peers join, announce,
# finish, leave and vanish; at the end each torrent must have the peers that it should have.
#
#   scripts/soak.sh                                      an hour and three minutes
#   scripts/soak.sh --minutes 3 --output soak            a try; leaves tables and a plot there
#   scripts/soak.sh --protocol udp --udp-rate 40000      one of them
#
# Half load is the load at which a tracker takes half of a core (column CPU), or half of its share
# if several have one. A run of a minute or two tells whether that is so.
#
# Root gets a network namespace for it, so that neither ports nor counts are shared with others.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/load-test.sh
. scripts/load-test.sh

usage() {
    cat <<'END'
usage: scripts/soak.sh [options]

  --minutes N        how long peers come and go (60); the end takes three minutes more at most
  --protocol NAME    udp, http or ws; without it: all at the same time
  --udp-rate N       requests per second over UDP (18000)
  --http-rate N      over HTTP (5000)
  --ws-rate N        over WebSocket (1800), besides answers to offers
  --settings LINES   more lines for the trackers' configuration, as dotted keys
  --output FOLDER    where to leave PROTOCOL.csv and soak.svg (soak)
END
}

options=(--minutes --protocol --udp-rate --http-rate --ws-rate --settings --output)
switches=()
minutes=60 protocol="" udp_rate=18000 http_rate=5000 ws_rate=1800 settings="" output=soak
read_options "$@"

if [ -z "${IN_NAMESPACE:-}" ]; then
    cargo build --quiet --release --locked -p aquatic_udp -p aquatic_http -p aquatic_ws \
        -p aquatic_flood_test
    if [ "$(id -u)" -eq 0 ] && unshare --net true 2>/dev/null; then
        export IN_NAMESPACE=yes
        # shellcheck disable=SC2016 # The inner shell expands this.
        exec unshare --net sh -c 'ip link set lo up && exec "$0" "$@"' scripts/soak.sh "$@"
    fi
fi
for cpu in "$tracker_cpu" "$tester_cpu"; do
    taskset -c "$cpu" true || fail "no core $cpu: set TRACKER_CPU and TESTER_CPU"
done
# A connection is an open file on either side.
ulimit -n "$(ulimit -Hn)"
mkdir -p "$output"
output=$(realpath "$output")
programs=$(realpath "$target/release")
tester=$programs/aquatic_flood_test
work=$(mktemp -d)
pids=()
trap 'stop_all; rm -rf "$work"' EXIT

stop_all() {
    local pid
    for pid in "${pids[@]}"; do
        { kill "$pid" && wait "$pid"; } 2>/dev/null || true
    done
}

seconds=$((minutes * 60))
# Short enough that everything has been forgotten several times within the run.
peer_age=$((seconds / 8))
[ "$peer_age" -le 120 ] || peer_age=120
[ "$peer_age" -ge 20 ] || peer_age=20
cleaning_interval=$((peer_age / 12 + 1))

# Usage: start_soaked_tracker PROTOCOL PORT
start_soaked_tracker() {
    local section=metrics peers="cleaning.max_peer_age = $peer_age"
    [ "$1" != udp ] || section=statistics
    # Over WebSocket, peers stay as long as their connections.
    [ "$1" != ws ] || peers=""
    mkdir "$work/$1"
    : >"$work/$1/list"
    cat >"$work/$1/tracker.toml" <<END
network.address = '127.0.0.1:$2'
$section.run_prometheus_endpoint = true
$section.prometheus_endpoint_address = '127.0.0.1:$(($2 + 1000))'
access_list.mode = 'deny'
access_list.path = '$work/$1/list'
cleaning.torrent_cleaning_interval = $cleaning_interval
$peers
$settings
END
    taskset -c "$tracker_cpu" "$programs/aquatic_$1" -c "$work/$1/tracker.toml" 2>"$work/$1/log" &
    pids+=($!)
    echo $! >"$work/$1/pid"
    local tries
    for tries in {1..200}; do
        ! grep -q ': ready$' "$work/$1/log" || return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/$1/log" >&2
    fail "aquatic_$1 is not ready after $tries tries"
}

"$tester" soak-head
testers=() tables=()
for of in udp http ws; do
    [ -z "$protocol" ] || [ "$protocol" = "$of" ] || continue
    start_soaked_tracker "$of" "$port"
    rate=${of}_rate
    taskset -c "$tester_cpu" "$tester" soak "$of" --tracker "127.0.0.1:$port" \
        --pid-file "$work/$of/pid" --seconds "$seconds" --rate "${!rate}" \
        --peer-age "$peer_age" --cleaning-interval "$cleaning_interval" \
        --access-list "$work/$of/list" --metrics "127.0.0.1:$((port + 1000))" \
        --csv "$output/$of.csv" </dev/null &
    testers+=($!)
    pids+=($!)
    tables+=("$output/$of.csv")
    port=$((port + 1))
done
[ ${#testers[@]} -gt 0 ] || fail "no protocol $protocol: udp, http or ws"
missed=0
for tester_pid in "${testers[@]}"; do
    wait "$tester_pid" || missed=$((missed + 1))
done
"$tester" plot "${tables[@]}" >"$output/soak.svg"
echo
echo "tables and plot: $output"
if [ "$missed" -gt 0 ]; then
    echo "$missed trackers missed a target: see above"
    exit 1
fi
echo "all targets were met"
