#!/usr/bin/env bash
# Attacks each tracker of the family on this machine, in all ways that aquatic_flood_test knows,
# with honest clients beside; prints a table, and which targets were missed.
#
#   scripts/floods.sh                                    all floods, some ten minutes
#   scripts/floods.sh --protocol udp --flood scrapes     one of them
#   scripts/floods.sh --settings 'socket_workers = 2'    with another configuration
#
# Each flood has a tracker of its own, with the default configuration but for the address, what
# `aquatic_flood_test list` names, and --settings. Root gets a network namespace for it, so that
# neither ports nor counts of dropped packets are shared with others.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/load-test.sh
. scripts/load-test.sh

usage() {
    cat <<'END'
usage: scripts/floods.sh [options]

  --seconds N        how long each flood takes (10); 30 at least if it is about a deadline or memory
  --protocol NAME    udp, http or ws; without it: all
  --flood NAME       one flood (see: aquatic_flood_test list)
  --settings LINES   more lines for the trackers' configuration, as dotted keys
  --memory-max MIB   the most memory that a tracker should take; 0: any (0)
  --memory-limit MIB the most memory that a control group lets it take; 0: any (0). Where there are
                     none to write to, it is the size of the address space (RLIMIT_AS).
END
}

options=(--seconds --protocol --flood --settings --memory-max --memory-limit)
switches=()
seconds=10 protocol="" flood="" settings="" memory_max=0 memory_limit=0
keeper_pid="" memory_group="" address_space_kib=0
read_options "$@"

if [ -z "${IN_NAMESPACE:-}" ]; then
    cargo build --quiet --release --locked -p aquatic_udp -p aquatic_http -p aquatic_ws \
        -p aquatic_flood_test
    if [ "$(id -u)" -eq 0 ] && unshare --net true 2>/dev/null; then
        export IN_NAMESPACE=yes
        # shellcheck disable=SC2016 # The inner shell expands this.
        exec unshare --net sh -c 'ip link set lo up && exec "$0" "$@"' scripts/floods.sh "$@"
    fi
fi
for cpu in "$tracker_cpu" "$tester_cpu"; do
    taskset -c "$cpu" true || fail "no core $cpu: set TRACKER_CPU and TESTER_CPU"
done
# Trackers hold as many connections as files allow.
ulimit -n "$(ulimit -Hn)"
tester=$(realpath "$target/release/aquatic_flood_test")
work=$(mktemp -d)
trap 'stop_tracker; rm -rf "$work"; [ -z "$memory_group" ] || rmdir "$memory_group"' EXIT

stop_tracker() {
    [ -z "$keeper_pid" ] || { kill "$keeper_pid" && wait "$keeper_pid"; } 2>/dev/null || true
    keeper_pid=""
}

# A control group, version 2 or 1; or else a limit on the address space.
if [ "$memory_limit" -gt 0 ]; then
    limit=memory.max groups=/sys/fs/cgroup
    [ -e $groups/cgroup.controllers ] || limit=memory.limit_in_bytes groups=$groups/memory
    memory_group=$groups/aquatic-floods-$$
    if mkdir "$memory_group" 2>/dev/null; then
        echo $((memory_limit << 20)) >"$memory_group/$limit"
    else
        memory_group="" address_space_kib=$((memory_limit << 10))
    fi
fi

# 2,000,000 info hashes that nobody announces.
make_list() {
    [ -e "$work/list" ] || od -An -v -tx1 -w20 -N 40000000 /dev/urandom | tr -d ' ' >"$work/list"
}

# Usage: keep_running PROGRAM
# As a service manager: a tracker that is killed (by SIGKILL) is started again.
keep_running() {
    cd "$work"
    local pid="" status=137
    trap 'kill "$pid" && wait "$pid"' TERM
    while [ "$status" -eq 137 ]; do
        (
            # Before it starts, since it asks then how much memory there is.
            [ -z "$memory_group" ] || echo "$BASHPID" >"$memory_group/cgroup.procs"
            [ "$address_space_kib" -eq 0 ] || ulimit -v "$address_space_kib"
            exec taskset -c "$tracker_cpu" "$1" -c tracker.toml 2>>log
        ) &
        pid=$!
        echo "$pid" >pid.new
        mv pid.new pid
        status=0
        wait "$pid" || status=$?
    done
} 2>/dev/null

# Usage: start_flooded_tracker PROTOCOL plain|tls SETTINGS
start_flooded_tracker() {
    {
        echo "network.address = '127.0.0.1:$port'"
        if [ "$2" = tls ]; then
            [ -d "$work/tls" ] || scripts/gen-tls.sh "$work/tls" >/dev/null
            echo "network.enable_tls = true"
            echo "network.tls_certificate_path = '$work/tls/ecdsa-cert.pem'"
            echo "network.tls_private_key_path = '$work/tls/ecdsa-key.pem'"
        fi
        printf '%s\n' "${3//; /$'\n'}" "$settings"
    } >"$work/tracker.toml"
    local program
    program=$(realpath "$target/release/aquatic_$1")
    : >"$work/log"
    keep_running "$program" &
    keeper_pid=$!
    local tries
    for tries in {1..200}; do
        ! grep -q ': ready$' "$work/log" || return 0
        kill -0 "$keeper_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/log" >&2
    fail "aquatic_$1 is not ready after $tries tries"
}

"$tester" head
missed=0
while read -r of name tls its_settings; do
    [ -z "$protocol" ] || [ "$protocol" = "$of" ] || continue
    [ -z "$flood" ] || [ "$flood" = "$name" ] || continue
    [[ $its_settings != *access_list* ]] || make_list
    start_flooded_tracker "$of" "$tls" "$its_settings"
    taskset -c "$tester_cpu" "$tester" run "$of" "$name" --tracker "127.0.0.1:$port" \
        --pid-file "$work/pid" --seconds "$seconds" --memory-max "$memory_max" </dev/null ||
        missed=$((missed + 1))
    stop_tracker
done < <("$tester" list)
echo
if [ "$missed" -gt 0 ]; then
    echo "$missed floods missed a target: see above"
    exit 1
fi
echo "all targets were met"
