#!/bin/sh
# Run a command as root in a mount namespace of its own: what it mounts is nobody else's, and whatever it
# might forget to unmount ends with it. Usage: hack/as-root.sh COMMAND [ARG...]
set -eu
if [ "$(id -u)" = 0 ]; then
	exec unshare --mount --propagation private "$@"
fi
exec sudo --preserve-env=PATH,HOME,GOFLAGS,GOPROXY,GOCACHE,GOMODCACHE,CI unshare --mount --propagation private "$@"
