#!/bin/sh
# Every check and test there is, as root in a mount namespace of its own. The race detector is on, and
# coverage is counted over all packages, whichever test runs them.
# test/crash runs without the race detector: its hundreds of processes would spend their time starting.
# What needs a cluster is tested by hack/e2e.sh, and the lab itself with DOZO_TEST_LAB=1. With DOZO_TEST_LONG=1
# (make test-long) also what takes many minutes each in a guest: LVM's law and crashes, crashes of encrypted volumes and of
# those on a NAS.
set -eu
cd "$(dirname "$0")/.."
hack/lint.sh
mkdir -p coverage
rc=0
run() { # JSON-FILE ARG...
	json=$1
	shift
	# Each package has a mount namespace of its own, so that none sees another's mounts.
	go tool gotestsum --format pkgname --hide-summary=skipped --jsonfile "coverage/$json" -- -timeout 45m -exec "$PWD/hack/as-root.sh" "$@" || rc=$?
}
run test.json -race -coverpkg=./internal/...,./cmd/... -coverprofile=coverage/all.out \
	$(go list ./... | grep -v /test/crash$)
run crash.json ./test/crash
# The chart is what its golden files say, which the tests of the webhook and the scheduler install.
make --no-print-directory lab-chart || rc=$?
echo
# The figures that tests print for people: laws, specs, crash points, sizes.
sed -n 's/.*"Output":"\( *[a-z_]*_test.go:[0-9]*: \| *guest| \)\{0,1\}\(\(law\|csi-sanity\|crash\|sizes\|bad input\|long\): .*\)\\n"}$/\2/p' coverage/test.json coverage/crash.json
go tool cover -func=coverage/all.out | sed -n 's/^total:.*\t/coverage: /p'
exit $rc
