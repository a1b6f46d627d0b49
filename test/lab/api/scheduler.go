package api

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/test/lab/cluster"
)

// Kubeconfig is the administrator's.
func (s *Server) Kubeconfig() string { return s.server.Kubeconfig }

// StartScheduler starts a kube-scheduler that ends with the test. A test that fails shows its log's end.
func (s *Server) StartScheduler(t testing.TB, config []byte) {
	t.Helper()
	lab, err := cluster.New(cluster.NewProgress(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "scheduler.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	stop, log, err := lab.StartScheduler(t.Context(), s.server, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("kube-scheduler's log ends with:\n%s", text[max(0, len(text)-4000):])
		}
	})
}
