#!/usr/bin/env bash
# Makes the programs that run in the kernel: crates/xdp/bpf/*.bpf.c to crates/xdp/src/programs/*.rs.
#
# Usage: scripts/bpf.sh            makes them
#        scripts/bpf.sh --check    makes them elsewhere, and compares
#
# Compilers differ, so what is kept is made with one version of clang, that of Debian 12; it is
# installed if it is missing. Another one is refused; under --check nothing is compared then, and
# that fails under CI=true.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh

case ${1:-} in
    '' | --check) mode=${1:-make} ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
major=14
compiler=clang-$major
require_program "$compiler" "$compiler"
if ! (install_missing_packages) || ! command -v "$compiler" > /dev/null; then
    echo "Not checked: there is no $compiler here (Debian 12 has it)" >&2
    [ "$mode" = --check ] && [ "${CI:-}" != true ] && exit
    exit 1
fi
require_rust

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
version=$("$compiler" --version | sed -n 's/.*clang version \([0-9.]*\).*/\1/p')
for source in crates/xdp/bpf/*.bpf.c; do
    name=$(basename "$source" .bpf.c)
    section=$(sed -n 's/^SECTION("\([a-z]*\)").*/\1/p' "$source")
    # Version 2 keeps numbers in 8 bytes where it has no register for them. Those in 4, of version
    # 3, may come to where a pointer was kept, which is refused where a process has few rights.
    "$compiler" -O2 -target bpfel -mcpu=v2 -Wall -Wextra -Werror \
        -I"/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$made/$name.o"
    cargo run --quiet --locked -p aquatic_xdp --example generate -- \
        "$name" "$made/$name.o" "$section" "clang $version" > "$made/$name.rs"
    kept=crates/xdp/src/programs/$name.rs
    if [ "$mode" = --check ]; then
        diff -u "$kept" "$made/$name.rs" || {
            echo "$kept is not what scripts/bpf.sh makes of $source" >&2
            exit 1
        }
    else
        cp "$made/$name.rs" "$kept"
    fi
    echo "$kept: $(grep -o 0x "$made/$name.rs" | wc -l) instructions"
done
