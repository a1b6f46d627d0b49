package lab

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

// Host is what Net.Self answers outside the guests.
const Host = ""

const (
	defaultMemoryMiB = 512
	minimalMemoryMiB = 128
	// One letter each for /dev/ubdb to /dev/ubdp; /dev/ubda is the root.
	maximalDisks  = 15
	maximalGuests = 9
)

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,14}$`)

// Guest describes one machine.
type Guest struct {
	// Name is the host name: lower-case letters, digits and dashes, 15 at most.
	// A single guest needs none.
	Name string
	// MemoryMiB is the guest's memory in MiB; 0 means 512.
	MemoryMiB int
	// Disks are empty disks besides the root; DiskPath names them in the guest.
	// They keep their content over a power cut.
	Disks []Disk
	// Modules are loaded before the test goes on, each with its dependencies.
	Modules []string
	// Programs must be in the guest's search path.
	Programs []string
	// Packages are Debian packages beyond guest-packages.txt. Each set of them
	// makes an image of its own, so keep the number of sets small.
	Packages []string
}

// Disk describes an empty disk.
type Disk struct {
	// Size in bytes, a multiple of 512.
	Size int64
}

// DiskPath is the device of Guest.Disks[i].
func DiskPath(i int) string {
	return "/dev/" + uml.DiskDevice(i)
}

// withDefaults fills what the test left open.
func (g Guest) withDefaults() Guest {
	if g.Name == "" {
		g.Name = "guest"
	}
	if g.MemoryMiB == 0 {
		g.MemoryMiB = defaultMemoryMiB
	}
	return g
}

// check tells what cannot be built as described.
func (g Guest) check() error {
	if !nameForm.MatchString(g.Name) {
		return fmt.Errorf("guest name %q: use up to 15 lower-case letters, digits and dashes, a letter first", g.Name)
	}
	if g.MemoryMiB < minimalMemoryMiB {
		return fmt.Errorf("guest %s has %d MiB of memory: give it %d or more", g.Name, g.MemoryMiB, minimalMemoryMiB)
	}
	if len(g.Disks) > maximalDisks {
		return fmt.Errorf("guest %s has %d disks: %d are possible", g.Name, len(g.Disks), maximalDisks)
	}
	for i, d := range g.Disks {
		if d.Size <= 0 || d.Size%512 != 0 {
			return fmt.Errorf("disk %d of guest %s has %d bytes: use a positive multiple of 512", i, g.Name, d.Size)
		}
	}
	return nil
}

// normalise completes the guests of one network and checks them together.
func normalise(guests []Guest) ([]Guest, error) {
	if len(guests) == 0 {
		return nil, errors.New("no guest is described: name at least one")
	}
	if len(guests) > maximalGuests {
		return nil, fmt.Errorf("%d guests are described: %d are possible", len(guests), maximalGuests)
	}
	seen := map[string]bool{}
	var all []Guest
	for _, g := range guests {
		g = g.withDefaults()
		if err := g.check(); err != nil {
			return nil, err
		}
		if seen[g.Name] {
			return nil, fmt.Errorf("two guests are called %s: give each its own name", g.Name)
		}
		seen[g.Name] = true
		all = append(all, g)
	}
	return all, nil
}
