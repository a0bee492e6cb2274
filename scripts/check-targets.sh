#!/usr/bin/env bash
# Compiles the trackers for systems other than this one, as far as that goes without a compiler for
# their C code: `cargo check` for each target whose standard library rustup has.
#
# Usage: scripts/check-targets.sh [TARGET...]
#
# TLS (aws-lc) is C code. So for FreeBSD and macOS only what does without it is compiled, unless
# this is such a system: the UDP tracker and all crates below it. With musl, everything is but
# glommio.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh
require_rust

without_tls=(--package aquatic_udp)
all=(--package aquatic_udp --package aquatic_http --package aquatic_ws --package aquatic)
# glommio compiles liburing, which wants headers of the kernel that musl-tools does not bring.
without_glommio=("${all[@]}" --no-default-features --features cluster)
host=$(rustc -vV | sed -n 's/^host: //p')

if [ $# -eq 0 ]; then
    set -- x86_64-unknown-freebsd aarch64-apple-darwin x86_64-unknown-linux-musl
fi
not_checked=()
for target in "$@"; do
    printf '== %s\n' "$target"
    if ! rustup target add "$target"; then
        not_checked+=("$target")
        continue
    fi
    case $target in
        "$host") packages=("${all[@]}") ;;
        *-linux-musl)
            require_program musl-tools musl-gcc
            install_missing_packages
            packages=("${without_glommio[@]}")
            ;;
        *) packages=("${without_tls[@]}") ;;
    esac
    cargo check "${packages[@]}" --target "$target" --locked
done
if [ ${#not_checked[@]} -gt 0 ]; then
    printf 'Not checked, since rustup has no standard library: %s\n' "${not_checked[*]}" >&2
    exit 1
fi
