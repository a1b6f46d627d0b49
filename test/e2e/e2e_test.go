package e2e

import (
	"cmp"
	"context"
	"os"
	"testing"
	"time"
)

// TestDriver runs all scenarios against the driver that DOZO_E2E_DRIVER names, and writes their timings to
// DOZO_E2E_TIMINGS.
func TestDriver(t *testing.T) {
	started := time.Now()
	s := newSuite(t)
	t.Run("use", func(t *testing.T) { s.runScenarios(t, useScenarios(), true) })
	t.Run("disturb", func(t *testing.T) { s.runScenarios(t, disturbScenarios(), false) })
	if !s.ran.Load() {
		t.Fatal("no scenario ran: see -run and -short")
	}
	if len(s.times.Operations()) == 0 {
		return // -run chose only such as take no times
	}
	report, err := s.report(context.Background(), started)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Write(cmp.Or(os.Getenv("DOZO_E2E_TIMINGS"), "../../coverage/e2e-timings.json")); err != nil {
		t.Error(err)
	}
	if err := report.Print(t.Output()); err != nil {
		t.Error(err)
	}
}

// TestNothingLeft runs when all tests are done that make volumes: storage outside of the cluster has none, and no node a
// connection to it.
func TestNothingLeft(t *testing.T) {
	s := newSuite(t)
	if !s.seesStorage() {
		t.Skipf("%s keeps volumes on nodes, where each scenario looks; or DOZO_E2E_LAB is not set", s.driver.Name)
	}
	for deadline := time.Now().Add(usualLimit); ; time.Sleep(time.Second) {
		left, err := s.leftovers(t.Context())
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left after %v: %q, %v", usualLimit, left, err)
		}
	}
}

// useScenarios only use the driver: they run side by side.
func useScenarios() []scenario {
	expand := func(c Can) bool { return c.Expand }
	snapshot := func(c Can) bool { return c.Snapshot }
	clone := func(c Can) bool { return c.Clone }
	block := func(c Can) bool { return c.Block }
	layouts := func(c Can) bool { return c.Layouts }
	single := func(c Can) bool { return c.SingleWriter }
	return []scenario{
		{name: "data outlives its pod", smoke: true, run: dataOutlivesPod},
		{name: "expand in use", smoke: true, needs: expand, run: expandInUse},
		{name: "expand ext4 in use", needs: func(c Can) bool { return c.Expand && c.Block }, run: expandExt4InUse},
		{name: "expand a block volume", needs: func(c Can) bool { return c.Expand && c.Block }, run: expandBlock},
		{name: "expand too far", needs: expand, run: expandTooFar},
		{name: "restore to a larger volume", smoke: true, needs: snapshot, run: restoreLarger},
		{name: "clone", smoke: true, needs: clone, run: cloneClaim},
		{name: "copies find their source", run: copiesFindTheirSource,
			needs: func(c Can) bool { return c.NodeBound && c.Snapshot && c.Clone }},
		{name: "ephemeral volume", run: ephemeralVolume},
		{name: "expand an unused volume", needs: expand, run: expandUnused},
		{name: "file systems", needs: block, run: fileSystems},
		{name: "mount options", run: mountOptions},
		{name: "least size", run: leastSize},
		{name: "uneven size", needs: block, run: unevenSize},
		{name: "copies outlive their source", needs: func(c Can) bool { return c.Snapshot && c.Clone }, run: copiesOutliveTheirSource},
		{name: "unknown pool", run: unknownPool},
		{name: "classes choose pools", needs: layouts, run: classesChoosePools},
		{name: "thin promises", needs: layouts, run: thinPromises},
		{name: "raw block", needs: block, run: rawBlock},
		{name: "ReadWriteOncePod", needs: single, run: readWriteOncePod},
		{name: "read only", run: readOnly},
		{name: "two pods share a volume", run: twoPodsShare},
		{name: "retain", run: retain},
		{name: "stats reach the kubelet", run: statsReachKubelet},
		{name: "fsGroup", needs: func(c Can) bool { return c.FSGroup }, run: fsGroup},
		{name: "subPath", run: subPath},
		{name: "inline volume", smoke: true, needs: func(c Can) bool { return c.Inline }, run: inlineVolume},
		{name: "inline volume too large", needs: func(c Can) bool { return c.Inline }, run: inlineTooLarge},
		{name: "immediate binding", needs: func(c Can) bool { return c.NodeBound }, run: immediate},
		{name: "restricted class", needs: func(c Can) bool { return c.NodeBound }, run: restrictedClass},
		{name: "imported snapshot", needs: snapshot, run: importedSnapshot},
		{name: "many writers", smoke: true, needs: func(c Can) bool { return c.ManyWriters }, run: manyWriters},
		{name: "many writers refused", needs: func(c Can) bool { return c.Outside && !c.ManyWriters }, run: manyWritersRefused},
		{name: "limits change", needs: func(c Can) bool { return c.Limits }, run: limitsChange},
	}
}

// disturbScenarios kill the driver or fill its storage: they run one by one.
func disturbScenarios() []scenario {
	return []scenario{
		{name: "killed while a pod writes", smoke: true, run: killedWhileWriting},
		{name: "killed while provisioning", run: killedWhileProvisioning},
		{name: "killed while staging", run: killedWhileStaging},
		{name: "killed while expanding", needs: func(c Can) bool { return c.Expand }, run: killedWhileExpanding},
		{name: "killed while deleting", run: killedWhileDeleting},
		{name: "all driver pods restarted", run: allRestarted},
		{name: "metrics agree with the storage", needs: func(c Can) bool { return c.Layouts }, run: metricsAgree},
		{name: "exact fit", needs: func(c Can) bool { return c.Capacity && c.Block }, run: exactFit},
		{name: "sum of claims", needs: func(c Can) bool { return hasExtender(c) && c.Capacity && c.Block }, run: sumOfClaims},
		{name: "full", needs: func(c Can) bool { return c.Capacity }, run: full},
		{name: "database", needs: hasDatabase, run: database},
		{name: "twenty at once", run: twentyAtOnce},
		{name: "fifty claims at once", needs: func(c Can) bool { return c.Block }, run: fiftyClaims},
		{name: "API server away", needs: hasLab, run: apiServerAway},
		{name: "power cut", needs: hasPower, run: powerCut},
		{name: "node lost", needs: func(c Can) bool { return hasPower(c) && c.NodeBound }, run: nodeLost},
		{name: "fence a node that is dead", needs: hasStorage, run: fenceDead},
		{name: "fence a node that lives", needs: func(c Can) bool { return hasStorage(c) && c.ShutsOut }, run: fenceLiving},
		{name: "a node's addresses change", needs: func(c Can) bool { return c.ByAddress }, run: addressesChange},
		{name: "storage away", needs: hasStorage, run: storageAway},
		{name: "expand while the storage restarts", needs: func(c Can) bool { return hasStorage(c) && c.Expand }, run: expandOverRestart},
	}
}
