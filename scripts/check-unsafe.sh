#!/usr/bin/env bash
# Checks the unsafe code: crates/udp_socket, crates/uring and crates/xdp, which share memory with
# the kernel.
#
# Usage: scripts/check-unsafe.sh
#
# - Under Miri, tests play the kernel: they follow every pointer that it is handed and use all that
#   it may use. Miri looks at each access: provenance, bounds, life time, data races.
# - With AddressSanitizer, the tests that talk to the real kernel show that what it hands back is
#   used no longer than it may be.
#
# Both need a nightly toolchain with Miri. Under CI=true one is installed if it is missing, and what
# cannot be checked fails; elsewhere that is said, and the script ends well.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh
require_rust

# One that is known to have Miri: not every night's does.
toolchain=nightly-2026-05-20
if ! cargo "+$toolchain" miri --version > /dev/null 2>&1 &&
    cargo +nightly miri --version > /dev/null 2>&1; then
    toolchain=nightly
fi
if ! cargo "+$toolchain" miri --version > /dev/null 2>&1; then
    if [ "${CI:-}" != true ]; then
        echo "Not checked: there is no nightly toolchain with Miri here. To have it:"
        echo "    rustup toolchain install $toolchain --profile minimal -c miri -c rust-src"
        exit
    fi
    rustup toolchain install "$toolchain" --profile minimal -c miri -c rust-src
fi

crates=(-p aquatic_udp_socket -p aquatic_uring -p aquatic_xdp)
target_dir=${CARGO_TARGET_DIR:-target}/unsafe
host=$(rustc -vV | sed -n 's/^host: //p')

# The kernel is played by the modules that these names match. Sends are read through pointers that
# were handed out while others of the same list were in use, which the older of the two models of
# aliasing, Stacked Borrows, does not allow for: hence Tree Borrows for them.
echo "Miri: Stacked Borrows"
MIRIFLAGS="-Zmiri-disable-isolation" cargo "+$toolchain" miri test "${crates[@]}" --lib --locked \
    --target-dir "$target_dir" -- kernel:: played:: pool:: wire:: waker::
echo "Miri: Tree Borrows"
MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows" cargo "+$toolchain" miri test \
    "${crates[@]}" --lib --locked --target-dir "$target_dir" -- sends::
echo "AddressSanitizer"
RUSTFLAGS="-Zsanitizer=address" cargo "+$toolchain" test "${crates[@]}" --lib --tests \
    --locked --target "$host" --target-dir "$target_dir"
