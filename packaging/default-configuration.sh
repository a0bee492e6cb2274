#!/bin/sh
# Prints the configuration with which a package or image of a tracker comes.
#
# Usage: packaging/default-configuration.sh PROGRAM      e.g. target/release/aquatic_udp
#
# It is what the program prints with -p. "aquatic serve" would have nothing to start with that, so
# UDP and HTTP are enabled; WebTorrent is not, since it wants the port of HTTP.
set -eu

case $1 in
    */aquatic)
        "$1" serve -p |
            awk '/^\[/ { wanted = $0 == "[udp]" || $0 == "[http]" }
                wanted && $0 == "enabled = false" { $0 = "enabled = true" }
                { print }'
        ;;
    *) "$1" -p ;;
esac
