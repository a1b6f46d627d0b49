#!/bin/sh
# Generate what is generated, here the Go code of the protobuf definitions, with the versions of go.mod.
# Usage: hack/generate.sh [--check]     --check: change nothing, and fail if that would change something
set -eu
cd "$(dirname "$0")/.."
command -v protoc >/dev/null || { echo "protoc is missing: install protobuf-compiler" >&2; exit 1; }
dir=internal/wire/proto
tools=$(mktemp -d)
trap 'rm -f "$tools"/*; rmdir "$tools"' EXIT
go build -o "$tools/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
out=$dir
[ "${1:-}" != --check ] || out=$tools
protoc -I "$dir" --plugin="$tools/protoc-gen-go" --plugin="$tools/protoc-gen-go-grpc" \
	--go_out="$out" --go_opt=paths=source_relative \
	--go-grpc_out="$out" --go-grpc_opt=paths=source_relative,require_unimplemented_servers=false wire.proto
[ "$out" = "$dir" ] && exit
for f in "$tools"/*.pb.go; do
	# protoc's own version is in the header: another Debian's compiler makes the same code.
	if ! diff -u -I '^// .*protoc  *v' "$dir/$(basename "$f")" "$f" >&2; then
		echo "$dir/$(basename "$f") is not what wire.proto says: run make generate" >&2
		exit 1
	fi
done
echo "generate: the generated files are up to date"
