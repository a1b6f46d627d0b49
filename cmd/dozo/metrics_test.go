package main

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dozo-dev/dozo/internal/host"
)

// TestCommandsAreMeasured runs real programs: one that does well, one that says no, one that is not there.
func TestCommandsAreMeasured(t *testing.T) {
	m := newMetrics()
	h := host.New()
	h.Runner = measured{h.Runner, m}
	for _, c := range []host.Cmd{
		{Op: "test.true", Name: "/bin/true"}, {Op: "test.sh", Name: "sh", Args: []string{"-c", "exit 5"}}, {Op: "test.none", Name: "no-such-program"},
	} {
		_, _ = h.Run(t.Context(), c) // the errors are what is looked for below
	}
	if n := testutil.CollectAndCount(m.registry, "dozo_host_command_duration_seconds"); n != 3 {
		t.Errorf("%d programs timed, want 3", n)
	}
	want := `
# HELP dozo_host_command_errors_total Programs run on the node that did not end well: by exit status, or the kind of error if they did not end by themselves.
# TYPE dozo_host_command_errors_total counter
dozo_host_command_errors_total{operation="test.none",program="no-such-program",result="unsupported"} 1
dozo_host_command_errors_total{operation="test.sh",program="sh",result="5"} 1
`
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), "dozo_host_command_errors_total"); err != nil {
		t.Error(err)
	}
}
