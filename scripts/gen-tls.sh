#!/usr/bin/env bash
# Makes self-signed certificates to try a tracker with TLS: an ECDSA one (P-256) and an RSA one
# (2048 bits), each as PEM and as DER, all with the key next to it.
#
#   scripts/gen-tls.sh FOLDER [NAME...]
#
# NAMEs are names and addresses of the host, by default: localhost 127.0.0.1 ::1
#
# Clients that check certificates accept them only if told to. For a public tracker, get a
# certificate from an authority, such as Let's Encrypt.

set -euo pipefail

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

[ $# -ge 1 ] || fail "usage: $0 FOLDER [NAME...]"
command -v openssl >/dev/null || fail "needs openssl"
folder=$1
shift
[ $# -ge 1 ] || set -- localhost 127.0.0.1 ::1

host=$1 names=""
for name in "$@"; do
    case $name in
    *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names+="${names:+,}IP:$name" ;;
    *) names+="${names:+,}DNS:$name" ;;
    esac
done

umask 077
mkdir -p "$folder"
cd "$folder"
make() {
    local name=$1
    shift
    openssl req -x509 -nodes -days 3650 -newkey "$@" \
        -subj "/CN=$host" -addext "subjectAltName=$names" \
        -keyout "$name-key.pem" -out "$name-cert.pem" 2>"$name.log" ||
        { cat "$name.log" >&2 && fail "openssl cannot make a certificate for: $names"; }
    rm "$name.log"
    openssl x509 -in "$name-cert.pem" -outform der -out "$name-cert.der"
    openssl pkcs8 -topk8 -nocrypt -in "$name-key.pem" -outform der -out "$name-key.der"
}
make ecdsa ec -pkeyopt ec_paramgen_curve:prime256v1
make rsa rsa:2048
ls -1 "$PWD"/{ecdsa,rsa}-{cert,key}.{pem,der}
