package remote

import (
	"slices"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
)

// TestKindOffersWhatNodesDo: classes are checked at the controller, so it has to know what is done on nodes.
func TestKindOffersWhatNodesDo(t *testing.T) {
	k := Kind(fake.Kind(fake.Options{}), nil)
	if !slices.ContainsFunc(k.Parameters, func(p backend.Parameter) bool { return p.Name == "encryption" }) {
		t.Errorf("no parameter encryption among %d", len(k.Parameters))
	}
	if m := New("p", nil, k.Mask(nil)).Mask(); m.Activator || m.Marker || !m.Expander || !m.Modifier {
		t.Errorf("the controller's end can do %+v", m)
	}
}
