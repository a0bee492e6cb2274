#!/usr/bin/env bash
# Measures a UDP tracker on this machine: starts it on one processor core, loads it from another,
# prints the report, stops it.
#
#   scripts/run-load-test-udp.sh                        as fast as the tracker answers
#   scripts/run-load-test-udp.sh --rate 50000           50,000 requests per second
#   scripts/run-load-test-udp.sh --fill 100000x40       memory: 100,000 torrents × 40 peers
#
# To compare with another tracker, which must listen on PORT:
#
#   TRACKER=/path/to/other/aquatic_udp CONFIG=other.toml PORT=3000 scripts/run-load-test-udp.sh
#
# Figures differ from run to run: alternate between the trackers, several times, and compare ratios.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/load-test.sh
. scripts/load-test.sh

usage() {
    cat <<'END'
usage: scripts/run-load-test-udp.sh [options]

  --seconds N         how long to measure (20)
  --warm-up N         how long to load before, unmeasured (5)
  --rate N            requests per second; 0: as many as the tracker answers (0)
  --torrents N        torrents that are asked for (1000000)
  --backend NAME      backend of our tracker: auto, io_uring or mio (auto)
  --socket-workers N  socket workers of our tracker (1)
  --swarm-workers N   swarm workers of our tracker (its default)
  --fill TxP          announce P peers in each of T torrents once, and measure memory
  --ipv6              over IPv6
  --json              print the report as a line of JSON

environment:
  TRACKER       another tracker's program, started with "-c CONFIG"
  CONFIG        its configuration file; or that of our tracker, instead of a generated one
  TRACKER_ARGS  its arguments, if they are others than "-c CONFIG"
  PORT          where the tracker listens (3969)
  TRACKER_CPU   processor cores of the tracker, as taskset takes them (0)
  TESTER_CPU    processor cores of the tester (1)
END
}

seconds=20 warm_up=5 rate=0 torrents=1000000 backend=auto json=false
socket_workers=1 swarm_workers="" fill=""
address=127.0.0.1 client_ips=127.0.0.1-127.0.0.4 sockets=4
fill_client_ips=127.0.0.1-127.0.0.20 fill_sockets=20
while [ $# -gt 0 ]; do
    case $1 in
    --ipv6) address='[::1]' client_ips=::1 fill_client_ips=::1 fill_sockets=1 ;;
    --json) json=true ;;
    -h | --help) usage && exit ;;
    --seconds | --warm-up | --rate | --torrents | --backend | --*-workers | --fill)
        [ $# -ge 2 ] || fail "$1 needs a value (see --help)"
        case $1 in
        --seconds) seconds=$2 ;;
        --warm-up) warm_up=$2 ;;
        --rate) rate=$2 ;;
        --torrents) torrents=$2 ;;
        --backend) backend=$2 ;;
        --socket-workers) socket_workers=$2 ;;
        --swarm-workers) swarm_workers=$2 ;;
        --fill) fill=$2 ;;
        *) fail "unknown option $1 (see --help)" ;;
        esac
        shift
        ;;
    *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done

prepare udp

# Without large receive buffers, a moment's inattention of either side loses packets.
recv_buffer=8000000
rmem_max=""
restore() {
    [ -z "$rmem_max" ] || sysctl -q -w net.core.rmem_max="$rmem_max"
}
if [ "$(cat /proc/sys/net/core/rmem_max)" -lt $recv_buffer ]; then
    if [ "$(id -u)" = 0 ]; then
        rmem_max=$(cat /proc/sys/net/core/rmem_max)
        sysctl -q -w net.core.rmem_max=$recv_buffer
    else
        echo "net.core.rmem_max is small: answers may be lost (as root, it would be raised)" >&2
    fi
fi

if [ -z "${CONFIG:-}" ]; then
    cat >"$work/tracker.toml" <<END
socket_workers = $socket_workers
${swarm_workers:+swarm_workers = $swarm_workers}
[network]
address = ["$address:$port"]
backend = "$backend"
socket_recv_buffer_size = $recv_buffer
END
fi
start_tracker udp

# Kernel steering looks at one packet of those that travel together: see the tester's configuration.
segmentation_offload=true
[ "$socket_workers" = 1 ] || segmentation_offload=false
fill_config=""
if [ -n "$fill" ]; then
    # A peer is an address and a port: one swarm of a million peers needs 16 addresses.
    client_ips=$fill_client_ips sockets=$fill_sockets
    fill_config="[fill]
enabled = true
number_of_torrents = ${fill%x*}
peers_per_torrent = ${fill#*x}"
fi
cat >"$work/tester.toml" <<END
server_address = "$address:$port"
duration_seconds = $seconds
warm_up_seconds = $warm_up
rate_per_second = $rate
tracker_pid = $tracker_pid
print_json = $json
[network]
client_ips = ["$client_ips"]
sockets_per_worker = $sockets
socket_recv_buffer_size = $recv_buffer
segmentation_offload = $segmentation_offload
[requests]
number_of_torrents = $torrents
$fill_config
END
run_tester udp
