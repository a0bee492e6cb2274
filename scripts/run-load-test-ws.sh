#!/usr/bin/env bash
# Measures a WebTorrent tracker on this machine: starts it on one processor core, loads it from
# another, prints the report, stops it.
#
#   scripts/run-load-test-ws.sh                       as fast as the tracker answers
#   scripts/run-load-test-ws.sh --tls --rate 5000     over TLS, 5,000 requests per second
#   scripts/run-load-test-ws.sh --idle --connections 5000     memory of 5,000 idle connections
#
# scripts/load-test.sh tells how to compare it with another tracker.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/load-test.sh
. scripts/load-test.sh

usage() {
    cat <<'END'
usage: scripts/run-load-test-ws.sh [options]

  --seconds N         how long to measure (20)
  --warm-up N         how long to load before, unmeasured (5)
  --rate N            announces and scrapes per second; 0: as many as the tracker answers (0)
  --connections N     connections (1000)
  --offers N          offers in each announce (10)
  --tls               over TLS, with a certificate made for the occasion (ECDSA P-256)
  --torrents N        torrents (1000)
  --runtime NAME      runtime of our tracker: auto, mio or glommio (auto)
  --socket-workers N  socket workers of our tracker (1)
  --swarm-workers N   swarm workers of our tracker (its default)
  --idle              announce once on each connection, keep them, and measure memory
  --ipv6              over IPv6
  --json              print the report as a line of JSON
END
}

options+=(--connections --offers --torrents --runtime)
switches+=(--tls --idle)
connections=1000 offers=10 torrents=1000 runtime=auto tls=false idle=false
read_options "$@"

prepare ws
start_stream_tracker ws "$runtime" "$tls"
run_tester ws <<END
[network]
connections = $connections
client_ips = ["$client_ips"]
enable_tls = $tls
[requests]
number_of_torrents = $torrents
offers_per_announce = $offers
[idle]
enabled = $idle
END
