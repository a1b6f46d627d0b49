package lab

import (
	"testing"

	dozohost "github.com/dozo-dev/dozo/internal/host"
)

// WithCapability is for tests that need a capability of root which this process may lack, as in a
// sandbox or container (unix.CAP_…). It returns true where the process has it; elsewhere the test runs in
// a guest, where root lacks nothing, and the host's side gets false as from [Run].
func WithCapability(t *testing.T, number int, g Guest) bool {
	t.Helper()
	if !InGuest() && dozohost.New().HasCapability(number) {
		return true
	}
	return Run(t, g)
}
