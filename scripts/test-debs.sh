#!/usr/bin/env bash
# Installs, runs, upgrades, removes and purges the Debian packages of the trackers, with the dpkg of
# this machine, in a view of this machine that forgets what is written (an overlay in a mount
# namespace), with a network and processes of its own.
#
# Usage: scripts/test-debs.sh [FOLDER]     FOLDER has the packages; default: target/debian
#
# Needs root, Debian's adduser, systemd-analyze, curl, and setpriv; scripts/build-debs.sh makes the
# packages. systemd does not run there: that the maintainer scripts start, restart and stop the
# services is seen from what they ask of systemctl, which is one that writes down what it is told.

set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debian}")

if [ "${IN_VIEW:-}" != true ]; then
    if [ "$(id -u)" -ne 0 ] || ! unshare --mount --net --pid --fork true 2> /dev/null; then
        echo "SKIPPED: needs root, and a kernel that lets it make namespaces"
        [ "${CI:-}" != true ] || exit 1
        exit 0
    fi
    view=$(mktemp -d)
    trap 'rmdir "$view"' EXIT
    # shellcheck disable=SC2016 # The inner shell expands this.
    unshare --mount --net --pid --fork sh -euc '
        view=$1 folder=$2 here=$PWD
        mount -t tmpfs tmpfs "$view"
        mkdir "$view/written" "$view/work" "$view/root"
        mount -t overlay overlay "$view/root" \
            -o "lowerdir=/,upperdir=$view/written,workdir=$view/work"
        mount -t proc proc "$view/root/proc"
        mount --rbind /dev "$view/root/dev"
        mount -t tmpfs tmpfs "$view/root/run"
        mount -t tmpfs tmpfs "$view/root/tmp"
        # The overlay shows the file system of / alone.
        mkdir -p "$view/root/mnt/source" "$view/root/mnt/debs"
        mount --bind "$here" "$view/root/mnt/source"
        mount --bind "$folder" "$view/root/mnt/debs"
        ip link set lo up
        exec chroot "$view/root" /usr/bin/env IN_VIEW=true \
            /mnt/source/scripts/test-debs.sh /mnt/debs
    ' sh "$view" "$folder"
    exit
fi

# From here on, everything is within the view.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
packages=(aquatic-udp aquatic-http aquatic-ws aquatic)
passed=0
current=

check() {
    current=$1
    printf '  %s\n' "$current"
    passed=$((passed + 1))
}

# Usage: fail WHAT...
fail() {
    echo "FAILED: $current: $*" >&2
    exit 1
}

# Usage: same WHAT EXPECTED FOUND
same() {
    [ "$2" = "$3" ] || fail "$1 is '$3', not '$2'"
}

on_exit() {
    local code=$?
    local failed=$((code == 0 ? 0 : 1))
    # As cargo ends, so that scripts/test.sh counts it.
    printf 'test result: %d passed; %d failed\n' $((passed - failed)) "$failed"
    exit "$code"
}
trap on_exit EXIT

deb_of() {
    local found
    found=$(find /mnt/debs -name "$1_*.deb")
    [ "$(wc -w <<< "$found")" = 1 ] || fail "not one package $1 in $folder: '$found'"
    echo "$found"
}

installed_status() {
    # shellcheck disable=SC2016 # dpkg-query expands this.
    dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null || echo none
}

# Usage: setting UNIT NAME. The value in a unit file.
setting() {
    sed -n "s/^$2=//p" "/usr/lib/systemd/system/$1.service"
}

# What this machine had before.
clean_slate() {
    local package
    for package in "${packages[@]}"; do
        [ "$(installed_status "$package")" = none ] || dpkg --purge "$package" > /dev/null
    done
    rm -rf /etc/aquatic
    if getent passwd aquatic > /dev/null; then
        deluser --quiet --system aquatic
    fi
}

# Paths that are about a tracker, with the exception of a package that is not meant.
traces() {
    find / -xdev \( -path /mnt -o -path /proc -o -path /work -o -path /root -o -path /home \
        -o -path /var/cache -o -path /var/lib/dpkg \) -prune -o -name '*aquatic*' -print | sort
}

# systemd that runs, as far as maintainer scripts see; it writes down what it is asked for.
pretend_systemd() {
    # Images of Debian for containers forbid all starts.
    rm -f /usr/sbin/policy-rc.d
    mkdir -p /run/systemd/system
    rm -f /usr/bin/systemctl /bin/systemctl
    cat > /usr/bin/systemctl <<'STUB'
#!/bin/sh
echo "$*" >> /tmp/systemctl.log
case "$*" in
    *is-enabled*) echo enabled ;;
    *is-active*) exit 3 ;;
esac
STUB
    chmod 755 /usr/bin/systemctl
    : > /tmp/systemctl.log
}

# Usage: asked_for WORDS. systemctl was, since the last time.
asked_for() {
    grep -q -- "$1" /tmp/systemctl.log || fail "no '$1' in: $(cat /tmp/systemctl.log)"
}

# Usage: answers SERVICE. The tracker serves a client.
answers() {
    local hash=%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14
    local announce="announce?info_hash=$hash&peer_id=-XX0001-abcdefghijkl&port=6881&left=0"
    case $1 in
        aquatic_udp) /mnt/source/scripts/ask-udp.sh 127.0.0.1 3000 > /tmp/answer ;;
        aquatic_http)
            curl -sS --max-time 5 "http://127.0.0.1:3000/$announce" > /tmp/answer &&
                grep -aq 8:interval /tmp/answer
            ;;
        aquatic_ws)
            # Nothing but the first answer is wanted: then the connection would stay.
            curl -sS --max-time 2 -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
                -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' \
                http://127.0.0.1:3000/ > /tmp/answer
            grep -aq '^HTTP/1.1 101' /tmp/answer
            ;;
        aquatic) answers aquatic_udp && answers aquatic_http ;;
    esac
}

# Usage: runs_as_the_unit_says SERVICE
runs_as_the_unit_says() {
    local user command attempts_left=50 pid
    user=$(setting "$1" User)
    command=$(setting "$1" ExecStart)
    cd "$(setting "$1" WorkingDirectory)"
    # shellcheck disable=SC2086 # These are words.
    setpriv --reuid "$user" --regid "$(setting "$1" Group)" --clear-groups --no-new-privs \
        --bounding-set -all $command > /tmp/log 2>&1 &
    pid=$!
    until answers "$1" 2> /tmp/why_not; do
        attempts_left=$((attempts_left - 1))
        if ! kill -0 "$pid" 2> /dev/null || [ "$attempts_left" -eq 0 ]; then
            fail "'$command' does not serve: $(tail -n 3 /tmp/log /tmp/why_not)"
        fi
        sleep 0.1
    done
    same "the user of the process" aquatic "$(stat -c %U "/proc/$pid")"
    $command --health > /tmp/health 2>&1 || fail "$(cat /tmp/health)"
    kill -TERM "$pid"
    wait "$pid" || fail "the service ended with code $?: $(tail -n 3 /tmp/log)"
    cd /
}

# Usage: mode_of PATH
mode_of() {
    stat -c '%U:%G %a' "$1"
}

install_package() {
    local package=$1 service=$2 deb
    check "$package is installed"
    deb=$(deb_of "$package")
    dpkg -i "$deb" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
    same "the status" installed "$(installed_status "$package")"
    same "the program" "root:root 755" "$(mode_of "/usr/bin/$service")"
    same "the configuration" "root:root 644" "$(mode_of "/etc/aquatic/$service.toml")"
    same "the folder for its state" "aquatic:aquatic 750" "$(mode_of "/var/lib/$service")"
    same "the shell of the user" /usr/sbin/nologin "$(getent passwd aquatic | cut -d: -f7)"
    for file in copyright changelog.gz changelog.Debian.gz "examples/$service.socket" \
        documents/{operating.md,decisions/README.md,monitoring/prometheus/aquatic.rules.yml}; do
        test -s "/usr/share/doc/$package/$file" || fail "there is no $file"
    done
    for page in "man8/$service.8" "man5/$service.toml.5"; do
        test -s "/usr/share/man/$page.gz" || fail "there is no page $page"
    done
    test -s "/usr/share/bash-completion/completions/$service" || fail "nothing for bash"
    test -s "/usr/share/zsh/vendor-completions/_$service" || fail "nothing for zsh"
    test -s "/usr/share/fish/vendor_completions.d/$service.fish" || fail "nothing for fish"
    dpkg -V "$package" || fail "files differ from those of the package"
    test -L "/etc/systemd/system/multi-user.target.wants/$service.service" ||
        fail "the service is not enabled"
}

unit_is_sound() {
    local service=$1
    check "the unit of $service is sound, and exposed little"
    systemd-analyze verify "/usr/lib/systemd/system/$service.service" 2> /tmp/complaints ||
        fail "$(cat /tmp/complaints)"
    same "what systemd-analyze says" "" "$(grep "$service" /tmp/complaints || true)"
    systemd-analyze security --offline=true --threshold=18 "$service.service" > /tmp/exposure ||
        fail "$(tail -n 1 /tmp/exposure)"
}

# Usage: next_version PACKAGE SERVICE. Makes a package of a later version with another default.
next_version() {
    rm -rf /tmp/next
    dpkg-deb -R "$(deb_of "$1")" /tmp/next
    sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control
    echo "# Of the next version." >> "/tmp/next/etc/aquatic/$2.toml"
    dpkg-deb -Znone -b /tmp/next /tmp/next.deb > /dev/null
}

upgrade_package() {
    local package=$1 service=$2
    check "an upgrade of $package keeps what the operator has written"
    local configuration=/etc/aquatic/$service.toml
    echo "# Of the operator." >> "$configuration"
    echo state > "/var/lib/$service/state"
    dpkg -i "$(deb_of "$package")" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
    next_version "$package" "$service"
    dpkg --force-confdef -i /tmp/next.deb > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
    same "the end of the configuration" "# Of the operator." "$(tail -n 1 "$configuration")"
    same "the new default" "# Of the next version." "$(tail -n 1 "$configuration.dpkg-dist")"
    same "the state" state "$(cat "/var/lib/$service/state")"
    # shellcheck disable=SC2086 # aquatic has subcommands, the others have none.
    "/usr/bin/$service" ${command_of[$service]:-} --check-config -c "$configuration" > /tmp/ok ||
        fail "the configuration cannot be used"
}

remove_package() {
    local package=$1 service=$2
    check "who removes $package keeps configuration and state"
    dpkg --remove "$package" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
    test -e "/etc/aquatic/$service.toml" || fail "the configuration is gone"
    test -e "/var/lib/$service/state" || fail "the state is gone"
    test ! -e "/usr/bin/$service" || fail "the program is still there"
    test ! -e "/usr/lib/systemd/system/$service.service" || fail "the unit is still there"
}

purge_package() {
    local package=$1
    check "who purges $package keeps nothing"
    dpkg --purge "$package" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
    same "the status" none "$(installed_status "$package" | sed 's/not-installed/none/')"
    same "what is left" "$traces_before" "$(traces)"
}

declare -A command_of=([aquatic]=serve)
clean_slate
traces_before=$(traces)
for package in "${packages[@]}"; do
    service=${package//-/_}
    echo "$package"
    install_package "$package" "$service"
    unit_is_sound "$service"
    check "$service serves as its unit starts it"
    runs_as_the_unit_says "$service"
    upgrade_package "$package" "$service"
    remove_package "$package" "$service"
    purge_package "$package"
done

echo "all of them, with systemd"
pretend_systemd
check "all packages can be installed together, and are started"
debs=()
for package in "${packages[@]}"; do
    debs+=("$(deb_of "$package")")
done
dpkg -i "${debs[@]}" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
for package in "${packages[@]}"; do
    asked_for "start ${package//-/_}.service"
done
check "an upgrade restarts a service and does not stop it before"
: > /tmp/systemctl.log
dpkg -i "$(deb_of aquatic-udp)" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
asked_for "restart aquatic_udp.service"
! grep -q "stop aquatic_udp" /tmp/systemctl.log || fail "it was stopped, and with it its sockets"
check "who removes a package stops its service, and no other's"
: > /tmp/systemctl.log
dpkg --remove aquatic-udp > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
asked_for "stop aquatic_udp.service"
! grep -q "stop.*aquatic_http" /tmp/systemctl.log || fail "another one was stopped"
getent passwd aquatic > /dev/null || fail "the user of the others is gone"
check "nothing is left of all"
dpkg --purge "${packages[@]}" > /tmp/dpkg 2>&1 || fail "$(tail -n 5 /tmp/dpkg)"
same "what is left" "$traces_before" "$(traces)"
