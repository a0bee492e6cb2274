# shellcheck shell=bash
# Source this: installs Debian packages, but only what is missing, and only when something is.

# Usage: require_package PACKAGE COMMAND...
# Notes PACKAGE as missing if COMMAND, which stands for what it brings, fails.
missing_packages=()
require_package() {
    local package=$1
    shift
    "$@" > /dev/null 2>&1 || missing_packages+=("$package")
}

# Usage: require_program PACKAGE PROGRAM
require_program() {
    require_package "$1" command -v "$2"
}

# Installs what has been noted. Ends the script if that cannot be done.
install_missing_packages() {
    if [ ${#missing_packages[@]} -eq 0 ]; then
        return
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    echo "Installing ${missing_packages[*]}"
    if ! command -v apt-get > /dev/null; then
        echo "There is no apt-get here. Please install by hand: ${missing_packages[*]}" >&2
        exit 1
    fi
    "${as_root[@]}" apt-get update -q
    (
        # Some packages would start a service, which a file of this name tells Debian not to do.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap '"${as_root[@]}" rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" > /dev/null
            "${as_root[@]}" chmod 755 "$policy"
        fi
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends "${missing_packages[@]}"
    )
    missing_packages=()
}

# Ends the script if there is no Rust toolchain: which one, and from where, is the user's choice.
require_rust() {
    if ! command -v cargo > /dev/null && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck source=/dev/null
        . "$HOME/.cargo/env"
    fi
    if ! command -v cargo > /dev/null; then
        echo "There is no Rust toolchain here. https://rustup.rs installs one." >&2
        exit 1
    fi
}
