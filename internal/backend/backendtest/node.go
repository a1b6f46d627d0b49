package backendtest

import (
	"github.com/dozo-dev/dozo/internal/backend"
)

func nodeLaws() []law {
	return []law{
		{"activate twice is one device", []need{activator()}, activateTwice},
		{"deactivate undoes activate", []need{activator()}, deactivateUndoes},
		{"data stays where it was written", []need{data()}, dataStays},
	}
}

func (e *env) activate(id backend.ID) string {
	e.Helper()
	device, err := e.caps.Activator.Activate(e.ctx, id)
	e.must(err, "activate "+string(id))
	return device
}

func activateTwice(e *env) {
	a, b := e.create("law-a"), e.create("law-b")
	first := e.activate(a.ID)
	if again := e.activate(a.ID); first == "" || again != first {
		e.Fatalf("activated as %q, then as %q", first, again)
	}
	if other := e.activate(b.ID); other == first {
		e.Fatalf("two volumes are activated as %s", other)
	}
	e.reopen()
	if again := e.activate(a.ID); again != first {
		e.Fatalf("activated as %q, after a restart as %q", first, again)
	}
}

func deactivateUndoes(e *env) {
	a := e.caps.Activator
	v := e.create("law-a")
	e.must(a.Deactivate(e.ctx, v.ID), "deactivate what was never active")
	e.activate(v.ID)
	e.must(a.Deactivate(e.ctx, v.ID), "deactivate")
	e.must(a.Deactivate(e.ctx, v.ID), "deactivate twice")
	e.activate(v.ID)
	e.reopen()
	e.must(a.Deactivate(e.ctx, v.ID), "deactivate after a restart")
	e.delete(v.ID) // nothing holds it
	e.must(a.Deactivate(e.ctx, v.ID), "deactivate a deleted volume")
}

// dataStays finds volumes that overlap, and data that was only in a cache.
func dataStays(e *env) {
	a, b := e.create("law-a"), e.create("law-b")
	e.fill(a.ID, "a", a.Size)
	e.fill(b.ID, "b", b.Size)
	e.holds(a.ID, "a", a.Size, a.Size)
	e.reopen()
	e.holds(a.ID, "a", a.Size, a.Size)
	e.holds(b.ID, "b", b.Size, b.Size)
	e.delete(a.ID)
	e.holds(b.ID, "b", b.Size, b.Size)
}
