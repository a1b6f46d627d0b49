package planetest_test

import (
	"testing"

	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/planetest"
)

func TestMemory(t *testing.T) { planetest.Run(t, dsmsim.NewMemory(), "/volume1") }

func TestFiles(t *testing.T) {
	files, err := dsmsim.NewFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	planetest.Run(t, files, "/volume1")
}
