#!/usr/bin/env bash
# Measures an HTTP tracker on this machine: starts it on one processor core, loads it from another,
# prints the report, stops it.
#
#   scripts/run-load-test-http.sh                        as fast as the tracker answers
#   scripts/run-load-test-http.sh --tls --rate 20000     over TLS, 20,000 requests per second
#   scripts/run-load-test-http.sh --tls --reconnect      a connection for each request
#   scripts/run-load-test-http.sh --idle --connections 5000     memory of 5,000 idle connections
#
# scripts/load-test.sh tells how to compare it with another tracker.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/load-test.sh
. scripts/load-test.sh

usage() {
    cat <<'END'
usage: scripts/run-load-test-http.sh [options]

  --seconds N         how long to measure (20)
  --warm-up N         how long to load before, unmeasured (5)
  --rate N            requests per second; 0: as many as the tracker answers (0)
  --connections N     connections (128)
  --pipelining N      requests that wait on each connection (1)
  --reconnect         a connection for each request
  --tls               over TLS, with a certificate made for the occasion (ECDSA P-256)
  --no-resumption     each TLS handshake is a full one
  --torrents N        torrents that are asked for (1000000)
  --runtime NAME      runtime of our tracker: auto, mio or glommio (auto)
  --socket-workers N  socket workers of our tracker (1)
  --swarm-workers N   swarm workers of our tracker (its default)
  --idle              announce once on each connection, keep them, and measure memory
  --ipv6              over IPv6
  --json              print the report as a line of JSON
END
}

options+=(--connections --pipelining --torrents --runtime)
switches+=(--reconnect --tls --no-resumption --idle)
connections=128 pipelining=1 torrents=1000000 runtime=auto
reconnect=false tls=false no_resumption=false idle=false
read_options "$@"
keep_alive=true resumption=true
[ "$reconnect" = false ] || keep_alive=false
[ "$no_resumption" = false ] || resumption=false

prepare http
start_stream_tracker http "$runtime" "$tls"
run_tester http <<END
[network]
connections = $connections
keep_alive = $keep_alive
pipelining_depth = $pipelining
client_ips = ["$client_ips"]
enable_tls = $tls
tls_resumption = $resumption
[requests]
number_of_torrents = $torrents
[idle]
enabled = $idle
END
