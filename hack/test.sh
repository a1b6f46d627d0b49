#!/bin/sh
# Every check and test there is, as root in a mount namespace of its own. The race detector is on, and
# coverage is counted over all packages, whichever test runs them.
# Usage: hack/test.sh [PACKAGE...], ./... by default.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- ./...
hack/lint.sh
mkdir -p coverage
rc=0
hack/as-root.sh go tool gotestsum --format pkgname --hide-summary=output --jsonfile coverage/test.json -- \
	-race -timeout 20m -coverpkg=./internal/...,./cmd/... -coverprofile=coverage/all.out "$@" || rc=$?
echo
# The figures that tests print for people: laws, specs, crash points, sizes.
sed -n 's/.*"Output":"\( *[a-z_]*_test.go:[0-9]*: \)\{0,1\}\(\(law\|csi-sanity\|crash\|sizes\|bad input\): .*\)\\n"}$/\2/p' coverage/test.json
go tool cover -func=coverage/all.out | sed -n 's/^total:.*\t/coverage: /p'
exit $rc
