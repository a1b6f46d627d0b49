package dsm

import (
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

// TestKinds: "not there" is only said where DSM surely says so.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		api  string
		code int
		want errs.Kind
	}{
		{lunAPI, 18990531, errs.NotFound},
		{lunAPI, 18990532, errs.NotFound},
		{volumeAPI, 117, errs.NotFound},
		{lunAPI, 117, errs.Unavailable},
		{shareAPI, 402, errs.NotFound},
		{authAPI, 402, errs.Unavailable},
		{lunAPI, 402, errs.Internal},
		{nfsRulesAPI, 2370, errs.NotFound},
		{lunAPI, 18990505, errs.Invalid},
		{targetAPI, 18990710, errs.Invalid},
		{lunAPI, 18990541, errs.NoSpace},
		{targetAPI, 18990542, errs.NoSpace},
		{lunAPI, 18990543, errs.NoSpace},
		{lunAPI, 18990002, errs.NoSpace},
		{lunAPI, 18990538, errs.Exists},
		{targetAPI, 18990745, errs.Exists},
		{shareAPI, 3301, errs.Exists},
		{shareAPI, 3328, errs.Busy},
		{lunAPI, 103, errs.Unsupported},
		{lunAPI, 105, errs.Unavailable},
		{lunAPI, 4711, errs.Internal},
	} {
		err := refuse(call{c.api, 1, "get"}, c.code)
		if errs.KindOf(err) != c.want || CodeOf(err) != c.code {
			t.Errorf("%s %d: %v of the kind %v, want %v", c.api, c.code, err, errs.KindOf(err), c.want)
		}
	}
	for api, table := range map[string]map[int]meaning{"": commonCodes, lunAPI: sanCodes, authAPI: codesOf[authAPI], shareAPI: shareCodes} {
		for code, m := range table {
			if m.text == "" {
				t.Errorf("%s %d has no words", api, code)
			}
			absent := strings.HasPrefix(m.text, "there is no such")
			if m.kind == errs.NotFound && !absent {
				t.Errorf("%s %d is NotFound, but says %q", api, code, m.text)
			}
		}
	}
}
