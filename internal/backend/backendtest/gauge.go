package backendtest

import (
	"math"
	"regexp"
)

func gaugeLaws() []law {
	return []law{{"figures have names and values", []need{gauger()}, gaugesInForm}}
}

var gaugeForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// gaugesInForm: whoever watches a pool refuses all its figures for one that is not as it should be.
func gaugesInForm(e *env) {
	e.create("law-a")
	e.reopen()
	gauges, err := e.caps.Gauger.Gauges(e.ctx)
	e.must(err, "gauges")
	helps, seen := map[string]string{}, map[[2]string]bool{}
	for _, g := range gauges {
		switch help, known := helps[g.Name]; {
		case !gaugeForm.MatchString(g.Name) || g.Help == "":
			e.Fatalf("%+v: a name is of a-z, 0-9 and _, and help is there", g)
		case math.IsNaN(g.Value) || math.IsInf(g.Value, 0):
			e.Fatalf("%+v: that is no figure", g)
		case known && help != g.Help:
			e.Fatalf("%+v: has other help elsewhere: %s", g, help)
		case seen[[2]string{g.Name, g.Part}]:
			e.Fatalf("%+v: is there twice", g)
		}
		helps[g.Name], seen[[2]string{g.Name, g.Part}] = g.Help, true
	}
	if len(gauges) == 0 {
		e.Fatalf("a Gauger has none")
	}
}
