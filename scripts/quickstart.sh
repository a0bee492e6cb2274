#!/usr/bin/env bash
# From a fresh clone to a working UDP tracker on port 3000, by one command.
#
# Usage: scripts/quickstart.sh [--once]
#
# Installs the build dependencies that are missing, builds, starts the tracker with its defaults,
# asks it, and leaves it running in the foreground until Ctrl-C. With --once (or CI=true) it stops
# after the answer.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh

port=3000

once=false
case "${1:-}" in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "scripts/${0##*/}" && exit ;;
    --once) once=true ;;
    "") [ "${CI:-}" != true ] || once=true ;;
    *) echo "Usage: scripts/quickstart.sh [--once]" >&2 && exit 2 ;;
esac

require_program build-essential cc
install_missing_packages
require_rust

echo "Building (some minutes the first time)"
cargo build --release --locked --package aquatic_udp --bin aquatic_udp
tracker=${CARGO_TARGET_DIR:-target}/release/aquatic_udp

# Several workers may share a port, and so could an older tracker of the same user: look first.
bound=$(printf '^ *[0-9]+: [0-9A-F]+:%04X ' "$port")
if grep -qE "$bound" /proc/net/udp /proc/net/udp6 2> /dev/null; then
    echo "UDP port $port is taken by another program. Stop that one first; or run" >&2
    echo "'$tracker -p > udp.toml', choose another port, and start '$tracker -c udp.toml'." >&2
    exit 1
fi

"$tracker" &
pid=$!
trap 'kill "$pid" 2> /dev/null || true' EXIT

echo
echo "Asking the tracker at 127.0.0.1 port $port"
attempts_left=20
until answer=$(scripts/ask-udp.sh 127.0.0.1 "$port" 2>&1); do
    attempts_left=$((attempts_left - 1))
    if ! kill -0 "$pid" 2> /dev/null || [ "$attempts_left" -eq 0 ]; then
        echo "$answer" >&2
        echo "The tracker did not start." >&2
        exit 1
    fi
    sleep 0.2
done
echo "$answer"
echo

if [ "$once" = true ]; then
    trap - EXIT
    kill -TERM "$pid"
    wait "$pid"
    echo "Stopped cleanly."
    exit
fi

echo "Announce URL for clients: udp://<address of this host>:$port/announce"
echo "It runs until you press Ctrl-C. '$tracker -p' prints every setting with its default."
trap 'kill -TERM "$pid" 2> /dev/null || true' INT TERM
wait "$pid" || wait "$pid"
trap - EXIT
