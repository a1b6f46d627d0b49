#!/bin/sh
# The tests that need a cluster: Dozo in the lab's Kubernetes, our own scenarios, then the upstream storage suite.
# Usage: hack/e2e.sh [--smoke]     --smoke: only the scenarios for every change
# A lab that it starts it takes down; one that is up already (DOZO_LAB_NAME, e2e by default) it leaves up, with
# Dozo in it brought up to date. With DOZO_LAB_KERNEL=guest its nodes have kernels of their own, which
# DOZO_E2E_DRIVER=lvm, synology (LUNs), synology-nfs and synology-smb (shared folders) need.
# docs/testing.md has the variables.
set -eu
cd "$(dirname "$0")/.."
smoke=
case "${1:-}" in
--smoke) smoke=-short ;;
'') ;;
*) echo "usage: hack/e2e.sh [--smoke]" >&2; exit 2 ;;
esac
driver=${DOZO_E2E_DRIVER:-loopfile}
export DOZO_LAB_KERNEL="${DOZO_LAB_KERNEL:-host}"
case $DOZO_LAB_KERNEL in
guest) name=e2e-guest parallel=2 ;; # not e2e, which may be up with the other kind of node
*) name=e2e parallel=4 ;;
esac
case $driver in
synology*) name=e2e-$driver ;; # which has a NAS, and a class that cannot be changed
esac
export DOZO_LAB_NAME="${DOZO_LAB_NAME:-$name}"
out=$PWD/coverage
mkdir -p "$out" bin
go build -o bin/lab ./test/lab/cmd/lab

cleanup() {
	rc=$?
	trap - EXIT
	bin/lab down || true
	exit "$rc"
}
if [ "$(bin/lab kubectl get --raw /readyz 2>/dev/null || true)" != ok ]; then
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	machines=
	case $driver in
	lvm) machines='--disk 8Gi --disk 8Gi --disk 2Gi' ;;
	synology*) machines=--nas ;;
	esac
	# shellcheck disable=SC2086 # no blanks in it
	bin/lab up $machines
fi
values=
case $driver in
lvm) # the empty disks of each node are its volume groups
	for node in $(bin/lab kubectl get nodes -o name); do
		bin/lab exec "${node#node/}" -- sh -c '
			vgs dozo >/dev/null 2>&1 || vgcreate --metadatasize 64m dozo /dev/ubdb /dev/ubdc
			vgs other >/dev/null 2>&1 || vgcreate --metadatasize 64m other /dev/ubdd'
	done
	values='--values test/lab/lvm-values.yaml' ;;
synology*) values="--values test/lab/$driver-values.yaml" ;;
esac
[ -z "${DOZO_E2E_EXTENDER:-}" ] || values="$values --values test/lab/scheduling-values.yaml"
# shellcheck disable=SC2086 # no blanks in it
bin/lab install $values
case $driver in
synology*) # what install has proved: in the end the NAS is to have nothing of ours
	bin/lab kubectl --namespace default delete --ignore-not-found --wait pod/lab-proof pvc/lab-proof ;;
esac
if [ -n "${DOZO_E2E_DATABASE:-}" ]; then
	bin/lab load-image --name "$DOZO_E2E_DATABASE" --package postgresql --package procps
fi
KUBECONFIG=$(bin/lab env | sed -n "s/^export KUBECONFIG='\(.*\)'$/\1/p")
export KUBECONFIG

rc=0
export DOZO_E2E_LAB="$PWD/bin/lab"
go -C test/e2e vet ./...
rm -f "$out/e2e-timings.json"
DOZO_E2E_TIMINGS=$out/e2e-timings.json go tool gotestsum --format testname --hide-summary=skipped --jsonfile "$out/e2e.json" \
	--raw-command -- go -C test/e2e test -json -count=1 -timeout 120m -parallel "${DOZO_E2E_PARALLEL:-$parallel}" $smoke ./... || rc=$?
[ ! -e "$out/e2e-timings.json" ] || go -C test/e2e run ./cmd/results timings "$out/e2e-timings.json"
[ -z "$smoke" ] || exit $rc

list=$PWD/test/e2e/upstream/$driver.skip
rm -rf "$out/upstream"
bin/lab e2e --driver "test/e2e/upstream/$driver.yaml" --skip "$(go -C test/e2e run ./cmd/results skip "$list")" \
	--procs "${DOZO_E2E_PROCS:-3}" --out "$out/upstream" || rc=$?
go -C test/e2e run ./cmd/results suite "$list" "$out/upstream/report.json"
go -C test/e2e test -count=1 -timeout 10m -v -run '^TestNothingLeft$' . || rc=$?
exit $rc
