#!/usr/bin/env bash
# Compares two trackers under the same load, in one run: A B A B ..., each pinned to CPU 0 with
# the load tester on CPU 1, and prints the tracker's CPU time per answer and the ratio A / B, pair
# by pair and as a median. Builds the load testers and aquatic_bench, which does all that.
#
# usage: scripts/compare.sh [-n PAIRS] [-l LOAD_CONFIG] [-c CPUS] PROTOCOL A A_CONFIG B B_CONFIG
#
# `aquatic_bench compare --help` explains each. $LOAD_TESTERS names a folder of load testers that
# are built already.
set -euo pipefail
manifest=$(dirname "$0")/../Cargo.toml
build=(cargo build --quiet --release --locked --manifest-path "$manifest")
"${build[@]}" -p aquatic_bench
[ -n "${LOAD_TESTERS:-}" ] || "${build[@]}" -p aquatic_load_test
target=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}
exec "$target/release/aquatic_bench" --own-dir "${LOAD_TESTERS:-$target/release}" compare "$@"
