#!/bin/sh
# Run every fuzz target for a while. Usage: hack/fuzz.sh [TIME], 30s each by default.
set -eu
cd "$(dirname "$0")/.."
for f in $(grep -rl --include='*_test.go' '^func Fuzz' internal); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$f"); do
		echo "$target in $(dirname "$f")"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}" "./$(dirname "$f")"
	done
done
