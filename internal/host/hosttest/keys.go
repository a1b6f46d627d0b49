package hosttest

import (
	"context"
	"slices"

	"github.com/dozo-dev/dozo/internal/host"
)

// CheapKeys is a [host.Runner] with which cryptsetup derives its keys in no time: a second for each is
// what makes a passphrase hard to guess, and a test of hundreds of them long.
type CheapKeys struct{ host.Runner }

// Run is [host.Runner].
func (r CheapKeys) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	const costly = 8 // --pbkdf argon2id and the three options with its costs
	if i := slices.Index(c.Args, "--pbkdf"); c.Name == "cryptsetup" && i >= 0 {
		c.Args = slices.Replace(slices.Clone(c.Args), i, i+costly, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
	}
	return r.Runner.Run(ctx, c)
}
