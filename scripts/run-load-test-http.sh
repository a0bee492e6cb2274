#!/usr/bin/env bash
# Measures an HTTP tracker on this machine: starts it on one processor core, loads it from another,
# prints the report, stops it.
#
#   scripts/run-load-test-http.sh                        as fast as the tracker answers
#   scripts/run-load-test-http.sh --tls --rate 20000     over TLS, 20,000 requests per second
#   scripts/run-load-test-http.sh --tls --reconnect      a connection for each request
#   scripts/run-load-test-http.sh --idle --connections 5000     memory of 5,000 idle connections
#
# To compare with another tracker, which must listen on PORT:
#
#   TRACKER=/path/to/other/aquatic_http CONFIG=other.toml PORT=3000 scripts/run-load-test-http.sh
#
# Figures differ from run to run: alternate between the trackers, several times, and compare ratios.

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

environment:
  TRACKER       another tracker's program, started with "-c CONFIG"
  CONFIG        its configuration file; or that of our tracker, instead of a generated one
  TRACKER_ARGS  its arguments, if they are others than "-c CONFIG"
  PORT          where the tracker listens (3969)
  TRACKER_CPU   processor cores of the tracker, as taskset takes them (0)
  TESTER_CPU    processor cores of the tester (1)
END
}

seconds=20 warm_up=5 rate=0 connections=128 pipelining=1 torrents=1000000 runtime=auto json=false
keep_alive=true tls=false resumption=true idle=false socket_workers=1 swarm_workers=""
address=127.0.0.1 client_ips=127.0.0.1-127.0.0.4
while [ $# -gt 0 ]; do
    case $1 in
    --reconnect) keep_alive=false ;;
    --tls) tls=true ;;
    --no-resumption) resumption=false ;;
    --idle) idle=true ;;
    --ipv6) address='[::1]' client_ips=::1 ;;
    --json) json=true ;;
    -h | --help) usage && exit ;;
    --seconds | --warm-up | --rate | --connections | --pipelining | --torrents | --runtime | \
        --*-workers)
        [ $# -ge 2 ] || fail "$1 needs a value (see --help)"
        case $1 in
        --seconds) seconds=$2 ;;
        --warm-up) warm_up=$2 ;;
        --rate) rate=$2 ;;
        --connections) connections=$2 ;;
        --pipelining) pipelining=$2 ;;
        --torrents) torrents=$2 ;;
        --runtime) runtime=$2 ;;
        --socket-workers) socket_workers=$2 ;;
        --swarm-workers) swarm_workers=$2 ;;
        *) fail "unknown option $1 (see --help)" ;;
        esac
        shift
        ;;
    *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done

prepare http

if [ -z "${CONFIG:-}" ]; then
    cat >"$work/tracker.toml" <<END
socket_workers = $socket_workers
${swarm_workers:+swarm_workers = $swarm_workers}
[network]
address = ["$address:$port"]
runtime = "$runtime"
END
    if [ "$tls" = true ]; then
        scripts/gen-tls.sh "$work/tls" >/dev/null
        cat >>"$work/tracker.toml" <<END
enable_tls = true
tls_certificate_path = "$work/tls/ecdsa-cert.pem"
tls_private_key_path = "$work/tls/ecdsa-key.pem"
END
    fi
fi
start_tracker http

cat >"$work/tester.toml" <<END
server_address = "$address:$port"
duration_seconds = $seconds
warm_up_seconds = $warm_up
rate_per_second = $rate
tracker_pid = $tracker_pid
print_json = $json
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
run_tester http
