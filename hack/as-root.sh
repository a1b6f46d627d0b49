#!/bin/sh
# Run a command as root in a mount namespace of its own: what it mounts is nobody else's, and whatever it
# might forget to unmount ends with it. Usage: hack/as-root.sh COMMAND [ARG...]
set -eu
if [ "$(id -u)" = 0 ]; then
	exec unshare --mount --propagation private "$@"
fi
# HOME is root's own, so that Go's caches there do not mix with yours.
exec sudo --preserve-env=PATH,GOFLAGS,GOPROXY,CI,DOZO_LAB,DOZO_LAB_CACHE --set-home unshare --mount --propagation private "$@"
