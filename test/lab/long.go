package lab

import (
	"os"
	"testing"
)

// Long skips a test that takes many minutes, which says so, unless DOZO_TEST_LONG=1 is set, as 'make test-long'
// does.
func Long(t testing.TB, takes string) {
	t.Helper()
	if os.Getenv("DOZO_TEST_LONG") != "1" {
		t.Skipf("long: NOT RUN: %s takes %s; 'make test-long' runs it", t.Name(), takes)
	}
}
