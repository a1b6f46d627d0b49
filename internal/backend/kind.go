package backend

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Kind describes a sort of backend: facts, and how to open a pool of it. The list of kinds is
// internal/backend/all.
type Kind struct {
	Name        string      // "loopfile": in pool configurations, and with ".dozo.dev" the CSI driver's name
	Options     []Parameter // of a pool
	Parameters  []Parameter // of a storage class
	Granularity int64       // bytes: sizes are rounded up to a multiple
	MinSize     int64       // bytes: smaller requests are rounded up
	MaxSize     int64       // bytes: larger ones are refused
	NodeBound   bool        // a volume lives on one node and is used only there

	// Mask returns what the backend of a pool with these options implements, for who cannot open it; nil
	// options: what some pool of the kind can.
	Mask func(options map[string]string) Mask

	// Shares reports whether the volumes of a pool and a class are file systems on a server, which any number of nodes
	// can mount: their access is a [Mount]. It has to be known before there is a volume, since it decides what may be asked
	// of one; options and parameters are complete. nil: none are.
	Shares func(options, parameters map[string]string) bool

	// Open opens a pool. It changes nothing on the storage but what makes it recognisable as ours.
	// errs.Invalid for options that cannot be, errs.Unavailable if the storage does not answer.
	Open func(ctx context.Context, c Config) (Backend, error)
}

// Config is what a pool is opened with.
type Config struct {
	Pool    string            // its name
	Node    string            // the node this process runs on
	Options map[string]string // those the kind declares, each present
	Secrets map[string][]byte // of a kind that logs in somewhere, by the keys that its documentation names; never logged
	Log     *slog.Logger      // for what a person should know and no error says; nil: nowhere
}

// Parameter declares one option of a pool or parameter of a storage class.
type Parameter struct {
	Name     string
	Help     string // one sentence with the values that are right
	Default  string
	Required bool
	Check    func(value string) error // nil: anything; the error need not repeat the name
}

// Complete returns given with the defaults of those declared that it lacks. errs.Invalid names
// the field (called what, say "parameters") that is unknown, missing or wrong.
func Complete(what string, declared []Parameter, given map[string]string) (map[string]string, error) {
	all := make(map[string]string, len(declared))
	known := make([]string, 0, len(declared))
	for _, p := range declared {
		known = append(known, p.Name)
		value, ok := given[p.Name]
		switch {
		case !ok && p.Required:
			return nil, errs.E(errs.Invalid, "%s[%q]: missing; %s", what, p.Name, p.Help)
		case !ok:
			value = p.Default
		case p.Check != nil:
			if err := p.Check(value); err != nil {
				return nil, errs.E(errs.Invalid, "%s[%q]: %w; %s", what, p.Name, err, p.Help)
			}
		}
		all[p.Name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, name) {
			return nil, errs.E(errs.Invalid, "%s[%.80q]: unknown; known are: %s", what, name, strings.Join(known, ", "))
		}
	}
	return all, nil
}

// OneOf returns a check that accepts just these values.
func OneOf(values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return errs.E(errs.Invalid, "%.80q is none of %s", v, strings.Join(values, ", "))
		}
		return nil
	}
}

type progressKey struct{}

// WithProgress returns a context whose [Progress] calls report.
func WithProgress(ctx context.Context, report func(what string)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// Progress tells whoever waits for a long call what it is doing, in a few words ("copied 3.2 of
// 10.0 GiB"). It costs little: call it a few times a second at most.
func Progress(ctx context.Context, what string) {
	if report, ok := ctx.Value(progressKey{}).(func(string)); ok {
		report(what)
	}
}
