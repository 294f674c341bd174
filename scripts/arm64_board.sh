#!/usr/bin/env bash
# An arm64 Debian on this machine, emulated by QEMU and reached over SSH: a board of another architecture for whoever
# has none. What it computes is right; its times mean nothing.
#
#   arm64_board.sh build        make it, once (about 10 minutes, 450 MB); does nothing where it is made
#   arm64_board.sh start        let it serve SSH on 127.0.0.1, on a port and with keys of its own
#   arm64_board.sh stop         end it and all that runs on it
#   arm64_board.sh ssh-config   print what an OpenSSH client needs to reach it as `arm64-board`
#   arm64_board.sh clean        stop it and remove it
#
#   HWNAS_ARM64_BOARD     where it lies (default: ~/.cache/hwnas/arm64-board)
#   HWNAS_PYTHON          a Python with pip, which fetches the board's packages (default: .venv's, else python3)
#   HWNAS_DEBIAN_MIRROR   where Debian comes from (default: debootstrap's)
#
# It runs in a user, mount and process namespace of its own, which ends with it: nothing is mounted, registered or
# left running on this machine, whatever becomes of it. Exit status 3: it cannot be had here, and a sentence says why.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
board=${HWNAS_ARM64_BOARD:-$HOME/.cache/hwnas/arm64-board}
root=$board/root
suite=bookworm
packages=python3,openssh-server
site=usr/local/lib/python3.11/dist-packages
wheels='onnxruntime|numpy|flatbuffers|protobuf|packaging'
# The instructions of a Raspberry Pi 4. ONNX Runtime crashes on what QEMU offers by itself.
cpu=cortex-a72

say() { echo "arm64_board: $*" >&2; }
fail() { say "$@"; exit 1; }
cannot() { say "$@"; exit 3; }

require() {
    local program
    [ "$(uname -s)" = Linux ] || cannot "needs Linux: QEMU translates system calls to those of the host."
    [ "$(id -u)" = 0 ] || cannot "needs root: debootstrap makes device nodes and files of several owners."
    for program in debootstrap unshare flock ssh-keygen; do
        command -v "$program" >/dev/null || cannot "needs $program; see scripts/system-packages.sh arm64-board."
    done
    [ -n "$(registration)" ] || cannot "needs QEMU's emulation of arm64 programs; see scripts/system-packages.sh arm64-board."
    run_inside / /bin/true || exit 3
}

# How QEMU's package describes to the kernel what starts an arm64 program.
registration() { cat /usr/lib/binfmt.d/qemu-aarch64*.conf 2>/dev/null | head -n 1; }

# Runs inside the namespaces. The kernel lets a user namespace say by itself what starts foreign programs (Linux 6.7);
# an older one does as the host says. /sys stays unmounted: with the host's, ONNX Runtime crashes.
# shellcheck disable=SC2016
enter='
    set -euo pipefail
    until read -r _ < /proc/self/uid_map; do sleep 0.02; done
    root=$1 registration=$2; shift 2
    mount -t proc proc "$root/proc"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    if mount -t binfmt_misc binfmt_misc "$root/mnt" 2>/dev/null; then
        echo "$registration" > "$root/mnt/register"
    elif [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
        echo "arm64_board: this kernel starts arm64 programs only if the host says how;" \
             "install binfmt-support and run update-binfmts --enable qemu-aarch64." >&2
        exit 3
    fi
    cd "$root"
    exec chroot "$root" "$@"'

# Start a command in namespaces of its own: `inside ROOT COMMAND...`; its process is $inside, which ends with this
# script unless that is forgotten.
inside() {
    local where=$1
    shift
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "QEMU_CPU=$cpu" "${session[@]}" \
        unshare --user --keep-caps --mount --pid --fork --kill-child \
        bash -c "$enter" enter "$where" "$(registration)" "$@" 9>&- &
    inside=$!
    if ! { map "$inside" gid_map && map "$inside" uid_map; }; then cannot "this machine gives no user namespace."; fi
}

inside=
session=() # `setsid` for what outlives this script
trap '[ -z "$inside" ] || kill -KILL "$inside" 2>/dev/null || true' EXIT # unshare hears nothing else

run_inside() {
    inside "$@"
    wait "$inside"
    inside=
}

# All users of the namespace are those of the host.
map() {
    local try
    for ((try = 0; try < 250; try++)); do
        if echo "0 0 65536" 2>/dev/null > "/proc/$1/$2"; then return; fi
        sleep 0.02
    done
    return 1
}

build() {
    local pins
    [ "$(made userland)" = "$suite $packages" ] || build_userland
    pins=$(grep -E "^($wheels)==" "$repository/constraints.txt")
    [ "$(made runtime)" = "$pins" ] || build_runtime "$pins"
}

# What a finished part was made from; empty: there is none.
made() { cat "$board/$1.made" 2>/dev/null || true; }

build_userland() {
    say "making an arm64 Debian in $root (about 10 minutes, once); details are in $board/build.log"
    halt
    rm -rf --one-file-system "$root" "$board"/*.made
    debootstrap --arch=arm64 --foreign --variant=minbase --include="$packages" "$suite" "$root" \
        ${HWNAS_DEBIAN_MIRROR:+"$HWNAS_DEBIAN_MIRROR"} > "$board/build.log" 2>&1 9>&- ||
        cannot "Debian could not be fetched: $(tail -n 1 "$board/build.log")"
    rm -f "$root/proc" # where it thinks that it is in a container, debootstrap links to the host's
    mkdir -p "$root/proc" "$root/mnt"
    # Told that it is in a container, it does not try to make the device nodes that are there already.
    run_inside "$root" /usr/bin/env container=lxc /debootstrap/debootstrap --second-stage >> "$board/build.log" 2>&1 ||
        fail "Debian could not be set up: $(tail -n 1 "$board/build.log")"
    run_inside "$root" /usr/sbin/useradd --create-home --shell /bin/bash --password '*' board
    write_ssh
    echo "$suite $packages" > "$board/userland.made"
}

# Only the board's user is let in, and only by the key made here.
write_ssh() {
    local name
    for name in host key; do
        rm -f "$board/$name" "$board/$name.pub"
        ssh-keygen -q -t ed25519 -N '' -C arm64-board -f "$board/$name"
    done
    rm -f "$root"/etc/ssh/ssh_host_*
    install -m 600 "$board/host" "$root/etc/ssh/host"
    install -m 644 "$board/key.pub" "$root/etc/ssh/board.pub"
    cat > "$root/etc/ssh/sshd_config" <<END
ListenAddress 127.0.0.1
HostKey /etc/ssh/host
AllowUsers board
AuthorizedKeysFile /etc/ssh/board.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
SetEnv QEMU_CPU=$cpu
Subsystem sftp internal-sftp
END
}

# The wheels that the host's project is pinned to, for the board's Python and processor.
build_runtime() {
    local wanted
    mapfile -t wanted <<< "$1"
    say "fetching ONNX Runtime and NumPy for it"
    rm -rf "${root:?}/$site" "$board/runtime.made"
    "$(python)" -m pip install --quiet --target "$root/$site" --only-binary=:all: --no-deps --python-version 3.11 \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        "${wanted[@]}" > "$board/pip.log" 2>&1 9>&- ||
        cannot "its packages could not be fetched: $(tail -n 1 "$board/pip.log")"
    echo "$1" > "$board/runtime.made"
}

python() {
    local own=$repository/.venv/bin/python
    [ -x "$own" ] || own=python3
    echo "${HWNAS_PYTHON:-$own}"
}

start() {
    local port
    build
    if runs; then return; fi
    port=$("$(python)" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    echo "[127.0.0.1]:$port $(cat "$board/host.pub")" > "$board/known_hosts"
    mkdir -p "$root/run/sshd"
    session=(setsid)
    inside "$root" /usr/sbin/sshd -D -e -p "$port" > "$board/sshd.log" 2>&1 < /dev/null
    echo "$inside" > "$board/pid"
    until ssh-keyscan -t ed25519 -T 5 -p "$port" 127.0.0.1 2>/dev/null | grep -q .; do
        kill -0 "$inside" 2>/dev/null || fail "its SSH server ended: $(tail -n 1 "$board/sshd.log")"
        sleep 0.2
    done
    cat > "$board/ssh_config" <<END
Host arm64-board
  HostName 127.0.0.1
  Port $port
  User board
  IdentityFile $board/key
  IdentitiesOnly yes
  UserKnownHostsFile $board/known_hosts
  GlobalKnownHostsFile /dev/null
END
    inside=
}

# Whether the process that holds the namespaces is there, and not another one of its number.
runs() {
    local pid
    pid=$(cat "$board/pid" 2>/dev/null) && grep -qsF "$root" "/proc/$pid/cmdline"
}

halt() {
    local pid first
    if runs; then
        pid=$(cat "$board/pid")
        first=$(tr -d ' ' < "/proc/$pid/task/$pid/children")
        # The first process of a process namespace takes all others with it, and unshare ends once they have.
        kill -KILL "$first"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    fi
    rm -f "$board/pid" "$board/ssh_config"
}

remove() {
    halt
    rm -rf --one-file-system "$root"
    rm -f "$board"/{userland,runtime}.made "$board"/{build,pip,sshd}.log "$board"/{host,key}{,.pub} "$board"/known_hosts
    rm "$board/lock"
    rmdir --ignore-fail-on-non-empty "$board"
}

# One of these at a time; the board itself does not keep the lock.
locked() {
    mkdir -p "$board"
    exec 9> "$board/lock"
    flock 9
    "$@"
}

case "${1:-}" in
    build | start) require; locked "$1" ;;
    stop) locked halt ;;
    ssh-config)
        runs || fail "it does not run; start it."
        cat "$board/ssh_config"
        ;;
    clean) locked remove ;;
    *) sed -n '2,/^set/{/^#/s/^# \?//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
