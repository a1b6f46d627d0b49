#!/bin/sh
# gofmt, go vet and staticcheck over all that is ours; what is generated is what its sources say.
set -eu
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not formatted, run gofmt -w: $unformatted" >&2; exit 1; }
go vet ./...
go tool staticcheck ./...
hack/generate.sh --check
echo "lint: gofmt, go vet and staticcheck have nothing to say"
