#!/usr/bin/env bash
# Asks a UDP tracker, as two BitTorrent clients would (BEP 15), and shows what it answers.
#
# Usage: scripts/ask-udp.sh [--info-hash INFO_HASH] [--key KEY] [HOST [PORT]]
#
#   --info-hash INFO_HASH  a torrent that the tracker's access list allows: 40 hexadecimal digits
#   --key KEY              of a private tracker: asks as for udp://HOST:PORT/KEY/announce (BEP 41)
#
# A seeder and a leecher of a made-up torrent announce themselves; the leecher must be told of the
# seeder. Then both leave. Needs bash and coreutils, nothing else.

set -euo pipefail

info_hash=
key=
while [[ ${1:-} == -* ]]; do
    case $1 in
        --info-hash | --key)
            [ $# -ge 2 ] || { echo "$1 needs a value" >&2 && exit 2; }
            if [ "$1" = --key ]; then key=$2; else info_hash=${2,,}; fi
            shift 2
            ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
        *) echo "unknown option $1: see --help" >&2 && exit 2 ;;
    esac
done
host=${1:-127.0.0.1}
port=${2:-3000}
if [ -n "$info_hash" ] && ! [[ $info_hash =~ ^[0-9a-f]{40}$ ]]; then
    echo "an info hash has 40 hexadecimal digits: $info_hash" >&2 && exit 2
fi

to_hex() {
    od -An -v -tx1 | tr -d ' \n'
}

# Usage: text_of HEX
text_of() {
    # shellcheck disable=SC2001 # Not every bash knows & in a substitution of its own.
    printf '%b' "$(sed 's/../\\x&/g' <<< "$1")" | tr -cd '[:print:]'
}

random_hex() {
    head -c "$1" /dev/urandom | to_hex
}

is_made_up=$([ -n "$info_hash" ] || echo true)
info_hash=${info_hash:-$(random_hex 20)}
# The path of the announce URL, in options of 255 bytes at most (BEP 41).
url_data=
rest=${key:+/$key/announce}
while [ -n "$rest" ]; do
    url_data+=02$(printf '%02x' $((${#rest} < 255 ? ${#rest} : 255)))
    url_data+=$(printf '%s' "${rest:0:255}" | to_hex)
    rest=${rest:255}
done
action_connect=00000000
action_announce=00000001
action_error=00000003

# Usage: exchange REQUEST_HEX. Prints the answer in hex. UDP may lose either, so it asks again.
exchange() {
    local answer
    for _ in 1 2 3; do
        # One write, one datagram: that is why dd collects what printf says.
        # shellcheck disable=SC2001 # Not every bash knows & in a substitution of its own.
        printf '%b' "$(sed 's/../\\x&/g' <<< "$1")" | dd bs=2048 iflag=fullblock status=none >&3
        answer=$(timeout 1 dd bs=2048 count=1 status=none <&3 | to_hex) || true
        if [ -n "$answer" ]; then
            echo "$answer"
            return
        fi
    done 2> /dev/null
    return 1
}

started=2
stopped=3

# Usage: announce NAME LEFT EVENT PORT WORDS. Prints what the tracker answers.
announce() {
    local name=$1 left=$2 event=$3 client_port=$4 words=$5
    local peer_id request answer
    peer_id=$(printf '%-20s' "-ask000-$name" | tr ' ' '0' | to_hex)
    request=$connection_id$action_announce$transaction_id$info_hash$peer_id
    request+=$(printf '%016x%016x%016x' 0 "$left" 0) # downloaded, left, uploaded
    request+=$(printf '%08x%08x%08x' "$event" 0 0)   # event, IP address, key
    request+=ffffffff$(printf '%04x' "$client_port") # peers wanted: the tracker's choice
    request+=$url_data
    answer=$(exchange "$request") || fail "no answer to the announce of the $name"
    case $answer in
        "$action_announce$transaction_id"*) ;;
        "$action_error$transaction_id"*)
            fail "the tracker refuses the $name: $(text_of "${answer:16}")"
            ;;
        *) fail "an answer that makes no sense: $answer" ;;
    esac
    peers=${answer:40}
    printf '%-16s interval %d s, seeders %d, leechers %d, peers in the answer %d\n' "$words" \
        "0x${answer:16:8}" "0x${answer:32:8}" "0x${answer:24:8}" $((${#peers} / peer_digits))
}

fail() {
    echo "$host port $port: $1" >&2
    exit 1
}

# The shell's own way to a UDP socket.
exec 3<> "/dev/udp/$host/$port" || fail "cannot be reached"
case $host in
    *:*) peer_digits=36 ;; # IPv6: 18 bytes
    *) peer_digits=12 ;;   # IPv4: 6 bytes
esac

transaction_id=$(random_hex 4)
answer=$(exchange "0000041727101980$action_connect$transaction_id") || fail "no answer"
case $answer in
    "$action_connect$transaction_id"????????????????) connection_id=${answer:16} ;;
    *) fail "an answer that makes no sense: $answer" ;;
esac
printf '%-16s connection id %s\n' connect "$connection_id"

announce seeder 0 $started 6881 "a seeder comes"
announce leecher 1000 $started 6882 "a leecher comes"
peers_of_leecher=$peers
announce leecher 1000 $stopped 6882 "the leecher goes"
announce seeder 0 $stopped 6881 "the seeder goes"

# A torrent that others share has other peers, too.
if [ "${#peers_of_leecher}" -lt "$peer_digits" ] ||
    { [ -n "$is_made_up" ] && [ "${#peers_of_leecher}" -ne "$peer_digits" ]; }; then
    fail "the leecher was not told of the seeder"
fi
echo "The leecher was told of the seeder: the tracker works."
