package wire_test

import (
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// TestImportCrosses: what is imported over the wire has the size that it has, and a refusal keeps its kind.
func TestImportCrosses(t *testing.T) {
	f := fake.New(fake.Options{})
	f.AddForeign("theirs", 3*mib)
	c := serve(t, f, fake.Kind(fake.Options{})).connect()
	for range 2 {
		v, err := c.Import(t.Context(), "theirs", backend.Request{ID: "v", Name: "v"})
		if err != nil || v.ID != "v" || v.Size != 3*mib {
			t.Errorf("%+v, %v", v, err)
		}
	}
	_, err := c.Import(t.Context(), "nothing", backend.Request{ID: "w", Name: "w"})
	refused(t, err, errs.NotFound, "nothing")
	plain := serve(t, fake.Plain(fake.New(fake.Options{})), fake.Kind(fake.Options{})).connect()
	_, err = plain.Import(t.Context(), "theirs", backend.Request{ID: "v", Name: "v"})
	refused(t, err, errs.Unsupported, "import")
}
