#!/usr/bin/env bash
# Measures a WebTorrent tracker on this machine: starts it on one processor core, loads it from
# another, prints the report, stops it.
#
#   scripts/run-load-test-ws.sh                       as fast as the tracker answers
#   scripts/run-load-test-ws.sh --tls --rate 5000     over TLS, 5,000 requests per second
#   scripts/run-load-test-ws.sh --idle --connections 5000     memory of 5,000 idle connections
#
# To compare with another tracker, which must listen on PORT:
#
#   TRACKER=/path/to/other/aquatic_ws CONFIG=other.toml PORT=3000 scripts/run-load-test-ws.sh
#
# Figures differ from run to run: alternate between the trackers, several times, and compare ratios.

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

environment:
  TRACKER       another tracker's program, started with "-c CONFIG"
  CONFIG        its configuration file; or that of our tracker, instead of a generated one
  TRACKER_ARGS  its arguments, if they are others than "-c CONFIG"
  PORT          where the tracker listens (3969)
  TRACKER_CPU   processor cores of the tracker, as taskset takes them (0)
  TESTER_CPU    processor cores of the tester (1)
END
}

seconds=20 warm_up=5 rate=0 connections=1000 offers=10 torrents=1000 runtime=auto json=false
tls=false idle=false socket_workers=1 swarm_workers=""
address=127.0.0.1 client_ips=127.0.0.1-127.0.0.4
while [ $# -gt 0 ]; do
    case $1 in
    --tls) tls=true ;;
    --idle) idle=true ;;
    --ipv6) address='[::1]' client_ips=::1 ;;
    --json) json=true ;;
    -h | --help) usage && exit ;;
    --seconds | --warm-up | --rate | --connections | --offers | --torrents | --runtime | \
        --*-workers)
        [ $# -ge 2 ] || fail "$1 needs a value (see --help)"
        case $1 in
        --seconds) seconds=$2 ;;
        --warm-up) warm_up=$2 ;;
        --rate) rate=$2 ;;
        --connections) connections=$2 ;;
        --offers) offers=$2 ;;
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

prepare ws

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
start_tracker ws

cat >"$work/tester.toml" <<END
server_address = "$address:$port"
duration_seconds = $seconds
warm_up_seconds = $warm_up
rate_per_second = $rate
tracker_pid = $tracker_pid
print_json = $json
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
run_tester ws
