#!/bin/sh
# The tour on a real Docker: one daemon of its own with overlay2, one with Btrfs, each on a file
# system of its own; an edit of the same size with the mtime put back, which `docker diff` does not
# show. Everything is made in one directory and taken down at the end, whatever happens.
#
# usage: docker-demo.sh PATH/TO/plimsoll        as root
set -eu

plimsoll=$(realpath "$1")
top=$(realpath "$(dirname "$0")/..")
if [ "$(id -u)" -ne 0 ]; then
    echo "docker-demo starts a daemon and mounts file systems, which only root may: sudo make docker-demo" >&2
    exit 2
fi
for program in dockerd containerd docker debootstrap mkfs.ext4 mkfs.btrfs losetup; do
    command -v "$program" >/dev/null || {
        echo "$program is missing: sh scripts/packages.sh installs it" >&2
        exit 2
    }
done

dir=$(mktemp -d /tmp/plimsoll-docker-demo-XXXXXX)
docker_pid= containerd_pid=
say() { printf '\n\033[1;36m%s\033[0m\n\n' "$*"; }
show() { printf '$ %s\n' "$*"; }
die() { echo "error: $*" >&2; exit 2; }

stop() { # PID: ends a process of ours and waits until it is gone
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 150); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}
stop_docker() {
    if [ -n "$docker_pid" ]; then
        docker -H "unix://$dir/docker.sock" rm -f web >/dev/null 2>&1 || true
    fi
    stop "$docker_pid"
    stop "$containerd_pid"
    docker_pid= containerd_pid=
}
unmount() { # whatever is still mounted in our directory, the deepest first
    awk -v dir="$dir/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r |
        while read -r place; do umount "$place" 2>/dev/null || umount -l "$place" || true; done
}
clean() {
    trap - EXIT INT TERM HUP
    stop_docker
    unmount
    rm -rf --one-file-system "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

await() { # TEXT COMMAND...: until it succeeds, for at most 30 seconds
    text=$1
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    tail -n 5 "$dir"/*.log >&2
    die "$text did not come up"
}

start_docker() { # DRIVER MKFS...
    driver=$1
    shift
    base=$dir/$driver
    mkdir -p "$base/data"
    truncate -s 3G "$base/image"
    "$@" "$base/image" >/dev/null
    mount -o loop "$base/image" "$base/data"
    cat >"$base/containerd.toml" <<TOML
version = 2
root = "$base/data/containerd"
state = "$base/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$base/containerd.sock"
TOML
    containerd --config "$base/containerd.toml" >"$dir/containerd.log" 2>&1 &
    containerd_pid=$!
    await containerd test -S "$base/containerd.sock"
    dockerd --data-root "$base/data/docker" --exec-root "$base/exec" --pidfile "$base/docker.pid" \
        --containerd "$base/containerd.sock" --host "unix://$dir/docker.sock" \
        --storage-driver "$driver" --bridge none --iptables=false --ip-forward=false \
        >"$dir/dockerd.log" 2>&1 &
    docker_pid=$!
    export DOCKER_HOST="unix://$dir/docker.sock"
    await dockerd docker info
    data_root=$base/data/docker
}

# An image without a registry: a Debian of its own, made once.
rootfs=$top/target/docker-demo/rootfs.tar
if [ ! -f "$rootfs" ]; then
    say "A Debian to make an image of (debootstrap, once)"
    mkdir -p "$(dirname "$rootfs")"
    debootstrap --variant=minbase stable "$dir/rootfs" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$dir/debootstrap.log" 2>&1 ||
        { tail -n 5 "$dir/debootstrap.log" >&2; die "debootstrap failed"; }
    tar -C "$dir/rootfs" -cf "$rootfs.part" .
    mv "$rootfs.part" "$rootfs"
    rm -rf "$dir/rootfs"
fi

tour() { # DRIVER MKFS...
    start_docker "$@"
    say "Docker with the storage driver $1"
    docker import "$rootfs" acme/web:1 >/dev/null
    docker run --detach --name web --network none acme/web:1 sleep 3600 >/dev/null

    echo "Somebody gives the account games the user id 0: the same size, and the mtime put back."
    docker exec web sh -c '
        touch -r /etc/passwd /run/ref
        sed s/^games:x:5:60:/games:x:0:00:/ /etc/passwd >/run/new
        cat /run/new >/etc/passwd
        touch -r /run/ref /etc/passwd
        rm /run/ref /run/new'
    show "docker exec web grep games /etc/passwd"
    docker exec web grep games /etc/passwd
    printf '\n'
    show "docker diff web"
    docker diff web | tee "$dir/docker-diff"
    printf '\n'
    show "plimsoll check web"
    "$plimsoll" check --docker-host "$dir/docker.sock" --data-root "$data_root" web | tee "$dir/check"
    grep -q /etc/passwd "$dir/docker-diff" && die "docker diff names the file: that is news"
    grep -q 'C  /etc/passwd .*content' "$dir/check" || die "plimsoll does not name the file"
    stop_docker
    unmount
}

tour overlay2 mkfs.ext4 -q
tour btrfs mkfs.btrfs -q
