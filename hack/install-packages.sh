#!/bin/sh
# Install the Debian packages whose programs Dozo runs on a node, as far as they are missing.
# Usage: hack/install-packages.sh [PACKAGE...]   (more packages, for tests)
set -eu
missing=
for p in e2fsprogs xfsprogs btrfs-progs util-linux mount "$@"; do
	dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "Please install:$missing" >&2; exit 1; }
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get -qq update
# shellcheck disable=SC2086 # a list of words
$sudo apt-get -qq install -y --no-install-recommends $missing >/dev/null
