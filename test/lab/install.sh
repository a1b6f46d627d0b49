#!/bin/sh
# Install Debian packages unless they are there already.
# Usage: install.sh [LIST...]   a LIST is a file with one package a line and # for remarks;
# without one, the list of what the lab needs on the host is taken.
set -eu

[ $# -gt 0 ] || set -- "$(dirname "$0")/host-packages.txt"

missing=
for package in $(sed 's/#.*//' "$@"); do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done

if [ -z "$missing" ]; then
	echo "install.sh: nothing to install"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "install.sh: not root; ask an administrator to install:$missing" >&2
	exit 1
fi

echo "install.sh: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# The package names are words of a list.
# shellcheck disable=SC2086
apt-get -qq install -y --no-install-recommends $missing
