#!/bin/sh
# Installs the Debian packages that the cluster tier of the test lab needs.
# Running it again changes nothing. The lab runs a containerd per node by itself
# and needs no service of the packages.
set -eu
packages="containerd runc containernetworking-plugins busybox-static iptables
iproute2 util-linux mount e2fsprogs xfsprogs bash coreutils grep sed findutils procps"
missing=""
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -y -q --no-install-recommends $missing
