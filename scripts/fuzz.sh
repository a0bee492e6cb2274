#!/usr/bin/env bash
# Runs all fuzz targets, one after the other: made-up input for each codec and for whole trackers.
#
# Usage: scripts/fuzz.sh [SECONDS PER TARGET [TARGET...]]          (30 seconds; all targets)
#
# Needs what the build needs, with a C++ compiler; the toolchain is the stable one. Input that makes
# a target fail is kept, and fails the script, which says how to replay it. What has been learned is
# kept, too, so that a later run goes on from there.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh
require_program g++ g++
install_missing_packages
require_rust

seconds=${1:-30}
shift || true
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
programs=$target_dir/$host/release

# What cargo-fuzz passes, too. All of it is stable, as long as no sanitizer is asked for; and there
# is hardly any unsafe code here that one could find fault with.
coverage=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
)
# The dependencies that the programs have, and a few more.
cp Cargo.lock fuzz/Cargo.lock
# With a target of its own, build scripts and macros are spared all this.
RUSTFLAGS="${coverage[*]} --cfg fuzzing" cargo build --release \
    --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$target_dir"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(basename --suffix=.rs fuzz/fuzz_targets/*.rs)
fi

failed=()
for target in "${targets[@]}"; do
    printf '\n== %s\n' "$target"
    learned=$target_dir/corpus/$target
    found=$target_dir/found/$target
    mkdir -p "$learned" "$found"
    seeds=()
    if [ -d "fuzz/seeds/$target" ]; then
        seeds=("fuzz/seeds/$target")
    fi
    "$programs/$target" -max_total_time="$seconds" -timeout=10 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$found/" "$learned" "${seeds[@]}" 2>&1 |
        grep --invert-match ' # Uses: \|Recommended dictionary\|recommended dictionary' ||
        failed+=("$target")
done

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFound something: %s\n' "${failed[*]}"
    echo "To replay it: $programs/TARGET $target_dir/found/TARGET/FILE"
    exit 1
fi
