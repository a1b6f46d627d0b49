package cluster

import (
	"fmt"
	"os"
	"testing"
)

// TestMain lets the test binary serve as the lab's processes: a lab runs the
// program that started it again, as its init among others.
func TestMain(m *testing.M) {
	if isStage, err := RunStage(os.Args[1:]); isStage {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
