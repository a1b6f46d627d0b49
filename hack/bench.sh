#!/bin/sh
# Measure Dozo as docs/benchmarks.md says, on a machine that does nothing else. Usage: hack/bench.sh [TEST], a regular
# expression such as TestExtender. What was measured before and is not now stays in the file; remove it to begin anew.
set -eu
cd "$(dirname "$0")/.."
file=$PWD/coverage/bench.json
mkdir -p coverage
rc=0
hack/as-root.sh env DOZO_BENCH="$file" go test -v -count=1 -timeout 30m -run "${1:-.}" ./test/bench/ >coverage/bench.log 2>&1 || rc=$?
if [ $rc != 0 ]; then
	tail -n 40 coverage/bench.log >&2
fi
go run ./test/bench/cmd/table "$file"
exit $rc
