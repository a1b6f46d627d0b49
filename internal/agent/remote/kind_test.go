package remote

import (
	"slices"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
)

// TestKindOffersWhatNodesDo: classes are checked at the controller, so it has to know what is done on nodes.
func TestKindOffersWhatNodesDo(t *testing.T) {
	local := fake.Kind(fake.Options{})
	local.Options = append(local.Options, backend.Parameter{Name: "where", Required: true})
	k := Kind(local, nil)
	if !local.Options[len(local.Options)-1].Required {
		t.Error("the kind that was given was changed")
	}
	if !slices.ContainsFunc(k.Parameters, func(p backend.Parameter) bool { return p.Name == "encryption" }) {
		t.Errorf("no parameter encryption among %d", len(k.Parameters))
	}
	// A pool that another process serves on its nodes has its options there.
	if i := slices.IndexFunc(k.Options, func(p backend.Parameter) bool { return p.Required }); i >= 0 {
		t.Errorf("without the option %s a pool cannot be used", k.Options[i].Name)
	}
	if m := New("p", nil, k.Mask(nil)).Mask(); m.Activator || m.Marker || m.Attacher || !m.Expander || !m.Modifier {
		t.Errorf("the controller's end can do %+v", m)
	}
}
