#!/bin/sh
# Installs the Debian packages that the cluster tier of the test lab needs.
# Running it again changes nothing. The lab never starts the packages' services.
set -eu
packages="containerd runc containernetworking-plugins busybox-static iptables
iproute2 util-linux mount e2fsprogs xfsprogs bash coreutils grep sed findutils procps"
missing=""
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
# A policy of "do not start" keeps a system's containerd service off.
apt-get update -q
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -y -q --no-install-recommends $missing
