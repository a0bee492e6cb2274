#!/usr/bin/env bash
# Measures a UDP tracker on this machine: starts it on one processor core, loads it from another,
# prints the report, stops it.
#
#   scripts/run-load-test-udp.sh                        as fast as the tracker answers
#   scripts/run-load-test-udp.sh --rate 50000           50,000 requests per second
#   scripts/run-load-test-udp.sh --fill 100000x40       memory: 100,000 torrents × 40 peers
#
# scripts/load-test.sh tells how to compare it with another tracker.

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
END
}

options+=(--torrents --backend --fill)
torrents=1000000 backend=auto fill=""
read_options "$@"

prepare udp

# Without large receive buffers, a moment's inattention of either side loses packets.
recv_buffer=8000000
recv_buffer_max=/proc/sys/net/core/rmem_max
former_max=""
restore() {
    [ -z "$former_max" ] || echo "$former_max" >$recv_buffer_max
}
if [ "$(cat $recv_buffer_max)" -lt $recv_buffer ]; then
    if [ "$(id -u)" = 0 ]; then
        former_max=$(cat $recv_buffer_max)
        echo $recv_buffer >$recv_buffer_max
    else
        echo "net.core.rmem_max is small: answers may be lost (as root, it would be raised)" >&2
    fi
fi

start_tracker udp "backend = \"$backend\"" "socket_recv_buffer_size = $recv_buffer"

# Kernel steering looks at one packet of those that travel together: see the tester's configuration.
segmentation_offload=true
[ "$socket_workers" = 1 ] || segmentation_offload=false
sockets=4 fill_config=""
if [ -n "$fill" ]; then
    # A peer is an address and a port: one swarm of a million peers needs 16 addresses.
    client_ips=127.0.0.1-127.0.0.20 sockets=20
    [ "$ipv6" = false ] || client_ips=::1 sockets=1
    fill_config="[fill]
enabled = true
number_of_torrents = ${fill%x*}
peers_per_torrent = ${fill#*x}"
fi
run_tester udp <<END
[network]
client_ips = ["$client_ips"]
sockets_per_worker = $sockets
socket_recv_buffer_size = $recv_buffer
segmentation_offload = $segmentation_offload
[requests]
number_of_torrents = $torrents
$fill_config
END
