#!/bin/sh
# Unpacks what Debian 12's own programs cannot do, beneath target/sid, and leaves the machine as it is: a
# Docker that can keep its images in containerd, a Podman that can keep them as composefs with a registry to
# take them from, a CRIU that knows this kernel, and cosign, which signs images. They are Debian's unstable ones, fetched once by
# Debian's own client, which proves by signatures what it downloads. rm -r target/sid* fetches them anew.
set -eu
cd "$(dirname "$0")/.."
mkdir -p target
docker="docker.io containerd"
podman="podman conmon composefs docker-registry"
# shellcheck disable=SC2086  # one word a package
if ! DEBIAN_SUITE=sid sh scripts/debian.sh target/sid "$(dpkg --print-architecture)" $docker $podman criu cosign \
    >target/next.log 2>&1; then
    tail -n 5 target/next.log >&2
    echo "Debian's unstable release cannot be had: tests that need it are skipped, except in CI" >&2
    [ "${CI:-}" != true ]
    exit
fi
# Beside them are other programs of unstable, which do not run here: only these are on a search path.
rm -rf target/sid.bin
mkdir -p target/sid.bin/docker target/sid.bin/criu
for program in usr/sbin/dockerd usr/bin/docker-init usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr; do
    ln -s "$PWD/target/sid/$program" target/sid.bin/docker
done
# They run on this machine's C library, which may be too old for what unstable has by now.
for program in dockerd containerd; do
    "target/sid.bin/docker/$program" --version >/dev/null ||
        echo "$program of unstable does not run here: tests that need it are skipped" >&2
done
# CRIU has its own.
cat >target/sid.bin/criu/criu <<END
#!/bin/sh
set -- "$PWD/target/sid/usr/sbin/criu" "\$@"
for loader in "$PWD"/target/sid/usr/lib/*-linux-gnu*/ld-linux-*.so.*; do
    exec "\$loader" --library-path "\${loader%/*}" "\$@"
done
END
chmod 755 target/sid.bin/criu/criu
