#!/bin/sh
# Unpacks Debian packages and what they depend on into a directory: scripts/debian.sh ROOT ARCH PACKAGE...
#
# The machine's own packages are left alone, and no script of a package is run. For the machine's own
# architecture only what it lacks is unpacked, beside the packages named; for another one, everything.
# Nothing is done, and nothing downloaded, when ROOT already has what these arguments say.
#
# DEBIAN_SUITE=trixie takes another release than the machine's, from the same mirror.
set -eu
root=$1
arch=$2
shift 2

asked="${DEBIAN_SUITE:-} $arch $*"
[ "$(cat "$root.has" 2>/dev/null)" != "$asked" ] || exit 0
rm -rf "$root" "$root.has"
mkdir -p "$root"
apt=$(realpath "$root").apt
# Of another list, perhaps, that was interrupted.
rm -rf "$apt/cache"
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"

# With the machine's own list of what is installed, only the rest is missing.
if [ "$arch" = "$(dpkg --print-architecture)" ]; then
    cp /var/lib/dpkg/status "$apt/status"
else
    : >"$apt/status"
fi
cat >"$apt/conf" <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Retries "3";
Acquire::Languages "none";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
#clear APT::Update::Post-Invoke-Success;
END
if [ -n "${DEBIAN_SUITE:-}" ]; then
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
        sed -n '/-security/d; s/^Debian //p' | head -n 1)
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $mirror $DEBIAN_SUITE main" >"$apt/sources.list"
    cat >>"$apt/conf" <<END
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
END
fi
export APT_CONFIG="$apt/conf" DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y --download-only --no-install-recommends --reinstall install "$@"
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$root"
done
rm -rf "$apt"
echo "$asked" >"$root.has"
