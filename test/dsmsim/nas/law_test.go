package nas_test

import (
	"testing"

	"github.com/dozo-dev/dozo/test/dsmsim/nas"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/dsmsim/planetest"
	"github.com/dozo-dev/dozo/test/lab"
)

// TestLaw is that of all planes.
func TestLaw(t *testing.T) {
	g := naslab.Guest()
	if !lab.Run(t, g) {
		return
	}
	lab.StartInitiator(t) // whose records the search for leftovers reads
	p, err := nas.Open(nas.Config{Volumes: []nas.Volume{{Path: "/volume1", Disk: "/var/tmp/volume1", Size: 1 << 30}}, Portals: []string{naslab.Portal}})
	if err != nil {
		t.Fatal(err)
	}
	planetest.Run(t, p, "/volume1")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	expectNothing(t)
}
