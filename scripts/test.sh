#!/usr/bin/env bash
# Installs what the tests need, and runs them all: formatting, lints, documents, tests, and file
# transfers between real BitTorrent clients.
#
# Usage: scripts/test.sh
#
# Needs a Rust toolchain and, for what is missing, Debian's apt-get. Under CI=true nothing is
# skipped: a test that cannot run there fails.

set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install-packages.sh

target=${CARGO_TARGET_DIR:-target}
log=$target/test.log

# With the time since the beginning: where it goes is to be seen.
step() {
    printf '\n== %s (%d:%02d)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60))
}

step "What the tests need"
require_program build-essential cc
require_program git git
require_program iproute2 ip
# Cuts cables between namespaces.
require_package nftables test -x /usr/sbin/nft
# Has interfaces leave checksums to whoever comes next, or not.
require_package ethtool test -x /usr/sbin/ethtool
require_program openssl openssl
require_program aria2 aria2c
require_program rtorrent rtorrent
require_program transmission-cli transmission-cli
# The binding is for Debian's own Python, whatever other one comes first in PATH.
require_package python3-libtorrent /usr/bin/python3 -c 'import libtorrent'
require_program nodejs node
require_program npm npm
require_program python3-pip pip3
# Both fetch over TLS.
require_package ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
require_program curl curl
# For promtool. Its service is not started.
require_program prometheus promtool
require_program chromium chromium
# Only root may have /usr/sbin in its PATH.
require_package nginx test -x /usr/sbin/nginx
require_package haproxy test -x /usr/sbin/haproxy
require_program caddy caddy
require_package nats-server test -x /usr/sbin/nats-server
# Looks at man pages.
require_program groff-base groff
# Its library is for tests of clocks that are set.
require_program faketime faketime
# Counts instructions.
require_program valgrind valgrind
# Judges the units. It is not started.
require_program systemd systemd-analyze
# Debian packages of the trackers are built and installed.
require_program dpkg-dev dpkg-shlibdeps
require_program adduser adduser
install_missing_packages
require_rust

if ! cargo fmt --version > /dev/null 2>&1 || ! cargo clippy --version > /dev/null 2>&1; then
    rustup component add rustfmt clippy
fi
mkdir -p "$target/e2e-npm"
cp crates/e2e/npm/package.json "$target/e2e-npm/"
npm install --prefix "$target/e2e-npm" --ignore-scripts --omit=optional --no-package-lock \
    --no-audit --no-fund --loglevel=error
pip3 install --target "$target/e2e-pip" --upgrade --require-hashes --only-binary :all: --no-deps \
    --disable-pip-version-check --root-user-action=ignore --quiet \
    --requirement crates/e2e/pip/requirements.txt

step "Formatting"
cargo fmt --all --check

step "Lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

# What packagers may leave out is left out; the rest must not miss it.
without_default_features=(--package aquatic_stream --package aquatic_http --package aquatic_ws
    --package aquatic --no-default-features)
cargo clippy "${without_default_features[@]}" --all-targets --locked -- -D warnings

step "Documents"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

step "Licences, sources and advisories of dependencies"
if ! command -v cargo-deny > /dev/null && [ "${CI:-}" = true ]; then
    cargo install cargo-deny --version 0.20.2 --locked --debug --root "$target/tools"
    PATH=$(realpath "$target")/tools/bin:$PATH
fi
if command -v cargo-deny > /dev/null; then
    cargo deny --all-features check bans licenses sources
    # The database of advisories is a repository of its own, which not every machine can reach.
    if cargo deny fetch db; then
        cargo deny --all-features check advisories
    else
        echo "Advisories were not looked at: their database could not be fetched."
    fi
else
    echo "Not looked at: there is no cargo-deny here."
fi

step "Build"
# Some tests start an example.
cargo build --workspace --bins --examples --locked

# The tests that make network namespaces need to be root. An ordinary user can be that in a user
# namespace, where the kernel allows it; `ip` needs a /run of its own there.
as_root=()
if [ "$(id -u)" -ne 0 ] && unshare --user --map-root-user --mount --net true 2> /dev/null; then
    # shellcheck disable=SC2016 # The inner shell expands this.
    as_root=(unshare --user --map-root-user --mount --net
        sh -c 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"' sh)
elif [ "$(id -u)" -ne 0 ]; then
    echo "Neither root nor able to make a user namespace: tests that need one skip themselves."
fi

# cargo-nextest is quicker and its report is easier to read; plain cargo runs the same tests.
run_tests=(cargo test --no-fail-fast)
if command -v cargo-nextest > /dev/null; then
    run_tests=(cargo nextest run --no-fail-fast --profile whole
        --test-threads $((2 * $(nproc))))
fi

# All but benchmarks, and examples in the documentation, which come extra: nextest knows no such.
targets=(--lib --bins --tests --examples)

failed=false
: > "$log"

# Usage: tests COMMAND... Notes a failure, but lets the rest run, too.
tests() {
    "$@" 2>&1 | tee -a "$log" || failed=true
}

step "Tests"
if [ ${#as_root[@]} -eq 0 ]; then
    tests "${run_tests[@]}" --workspace "${targets[@]}" --locked
else
    # The others are for an ordinary user: some see that root's doings are refused.
    tests "${run_tests[@]}" --workspace --exclude aquatic_e2e "${targets[@]}" --locked
    tests "${as_root[@]}" "${run_tests[@]}" --package aquatic_e2e "${targets[@]}" --locked
fi
step "Debian packages"
if [ "$(id -u)" -eq 0 ]; then
    rm -rf "$target/debian"
    scripts/build-debs.sh --profile dev --no-build --fast
    tests scripts/test-debs.sh
else
    echo "Not looked at: only root can install packages, be it in a view of its own."
fi
step "Model test: no wake-up is lost, in any interleaving"
tests env RUSTFLAGS="--cfg loom" cargo test --release --package aquatic_channel --test loom \
    --target-dir target/loom --locked
step "Without glommio"
tests cargo test "${without_default_features[@]}" --locked --test protocol --test runtimes -- \
    without_io_uring a_runtime_that_is_asked_for traffic
step "Without a cluster"
tests cargo test --package aquatic_cluster --no-default-features --lib --locked -- without
step "Instruction budgets"
# They are those of one compiler, which CI's image has, and of one kind of CPU.
if rustc -V | grep -q '^rustc 1\.95\.' && grep -qw avx2 /proc/cpuinfo; then
    for bench in http_messages swarms udp_messages ws_messages; do
        tests cargo bench --package aquatic_budgets --bench "$bench" --locked -- --check
    done
else
    echo "Not looked at: the figures are those of Rust 1.95 on an x86-64 CPU with AVX2."
fi
step "Programs in the kernel"
tests scripts/bpf.sh --check
step "Unsafe code"
tests scripts/check-unsafe.sh
step "Fuzzing"
tests scripts/fuzz.sh --smoke
step "Tests in the documentation"
tests cargo test --workspace --doc --locked

# Both runners end with a summary: "Summary [...] 12 tests run: 11 passed (1 slow), 1 failed, ..."
# and "test result: FAILED. 11 passed; 1 failed; 0 ignored; ...".
count() {
    sed -n -E "s/^( *Summary \[|test result:).* ([0-9]+) $1.*/\\2/p" "$log" |
        awk '{ sum += $1 } END { print sum + 0 }'
}

step "The end"
printf '%s passed, %s failed, %s skipped\n' \
    "$(count passed)" "$(count failed)" "$(($(count skipped) + $(count ignored)))"
if [ "$failed" = true ]; then
    echo "Something failed: see above, or in $log"
    exit 1
fi
