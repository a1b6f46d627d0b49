#!/bin/sh
# Run a command as root in a mount namespace of its own: what it mounts is nobody else's, and whatever it
# might forget to unmount ends with it. Usage: hack/as-root.sh COMMAND [ARG...]
set -eu
# Within it mounts are shared, so that namespaces made inside do not hold what is unmounted here.
own='mount --make-rshared / && exec "$@"'
if [ "$(id -u)" = 0 ]; then
	exec unshare --mount --propagation private sh -c "$own" sh "$@"
fi
# HOME is root's own, so that Go's caches there do not mix with yours.
exec sudo --preserve-env=PATH,GOFLAGS,GOPROXY,CI,DOZO_LAB,DOZO_LAB_CACHE,DOZO_TEST_LONG --set-home unshare --mount --propagation private sh -c "$own" sh "$@"
