package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

// How long things may take before a scenario fails. The lab has two cores for all its nodes.
const (
	requestLimit = 2 * time.Minute // one request, one program in a pod
	usualLimit   = 5 * time.Minute // anything that is expected to happen
)

// suite is one run of the scenarios.
type suite struct {
	cluster *Cluster
	driver  Driver
	times   *timings.Recorder
	nodes   *inspector
	keep    bool        // leave what a failed scenario made
	ran     atomic.Bool // any scenario
}

// newSuite reads the settings, and checks that the driver is there.
func newSuite(t *testing.T) *suite {
	t.Helper()
	driver, err := driverNamed(cmp.Or(os.Getenv("DOZO_E2E_DRIVER"), "loopfile"))
	if err != nil {
		t.Fatal(err)
	}
	driver.StorageClass = cmp.Or(os.Getenv("DOZO_E2E_STORAGECLASS"), driver.StorageClass)
	driver.SnapshotClass = cmp.Or(os.Getenv("DOZO_E2E_SNAPSHOTCLASS"), driver.SnapshotClass)
	cluster, err := Connect("", cmp.Or(os.Getenv("DOZO_E2E_IMAGE"), "dozo.local/busybox:1"))
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{cluster: cluster, driver: driver, times: &timings.Recorder{}, keep: os.Getenv("DOZO_E2E_KEEP") != ""}
	nodes, err := s.driverNodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.nodes = newInspector(t, cluster, nodes)
	return s
}

// driverNodes lists the nodes that the driver serves, once it and its class are there.
func (s *suite) driverNodes(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	storage := s.cluster.typed.StorageV1()
	class, err := storage.StorageClasses().Get(ctx, s.driver.StorageClass, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("is the driver installed? DOZO_E2E_STORAGECLASS chooses a class: %w", err)
	}
	if class.Provisioner != s.driver.Name {
		return nil, fmt.Errorf("StorageClass %s is one of %s, not of %s", class.Name, class.Provisioner, s.driver.Name)
	}
	list, err := storage.CSINodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, node := range list.Items {
		for _, d := range node.Spec.Drivers {
			if d.Name == s.driver.Name {
				nodes = append(nodes, node.Name)
			}
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("no node has registered the driver %s", s.driver.Name)
	}
	return nodes, nil
}

// report gives the timings their context.
func (s *suite) report(ctx context.Context, started time.Time) (timings.Report, error) {
	r := timings.Report{Format: timings.Format, Unit: "seconds", Driver: s.driver.Name, Started: started.UTC().Round(time.Second),
		Nodes: len(s.nodes.pods), Operations: s.times.Operations()}
	version, err := s.cluster.typed.Discovery().ServerVersion()
	if err != nil {
		return r, err
	}
	r.Kubernetes = version.GitVersion
	nodes, err := s.cluster.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		return r, err
	}
	r.CPUs = int(nodes.Items[0].Status.Capacity.Cpu().Value())
	return r, nil
}

// scenario is one thing that users do.
type scenario struct {
	name  string
	smoke bool // one of the few for every change
	needs func(Can) bool
	run   func(*bed)
}

// runScenarios runs those that the driver can do, and with -short the few that every change has to pass.
func (s *suite) runScenarios(t *testing.T, all []scenario, parallel bool) {
	for _, sc := range all {
		if testing.Short() && !sc.smoke {
			continue // left out, not skipped: what is skipped has a reason that somebody should read
		}
		t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) {
			if sc.needs != nil && !sc.needs(s.driver.Can) {
				t.Skipf("%s cannot do it", s.driver.Name)
			}
			if parallel {
				t.Parallel()
			}
			s.ran.Store(true)
			sc.run(newBed(t, s))
		})
	}
}
