package pool

import (
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
)

// OptionInlineLimit is the pool option that lets pods have inline volumes.
const OptionInlineLimit = "inlineLimit"

// CommonOptions are the options that a pool of a kind has beside those that the kind declares.
func CommonOptions(kind backend.Kind) []backend.Parameter {
	if !kind.NodeBound {
		return nil
	}
	return []backend.Parameter{{
		Name: OptionInlineLimit, Default: "0",
		Check: func(v string) error { _, err := backend.ParseSize(v); return err },
		Help:  "room that the CSI inline volumes on one node may take together, such as 10Gi; 0 refuses them, since whoever can make pods can make them",
	}}
}

// splitOptions tells the pool's own options, complete, from those for its backend.
func splitOptions(kind backend.Kind, given map[string]string) (common, own map[string]string, err error) {
	common, err = backend.Complete("options", slices.Concat(kind.Options, CommonOptions(kind)), given)
	if err != nil {
		return nil, nil, err
	}
	return common, withoutCommon(given), nil
}

// withoutCommon returns the options that are for the backend.
func withoutCommon(given map[string]string) map[string]string {
	own := map[string]string{}
	for name, value := range given {
		if name != OptionInlineLimit {
			own[name] = value
		}
	}
	return own
}

// InlineLimit is how many bytes the inline volumes of the pool may take together on this node; 0
// is none at all.
func (p *Pool) InlineLimit() int64 { return p.inline }

// SizeFor is the size in bytes that Create gives to a volume of at least required bytes with a file system.
func (p *Pool) SizeFor(required int64, fileSystem string) (int64, error) {
	required, err := VolumeRequest{Required: required, FileSystems: []string{fileSystem}}.required(false)
	if err != nil {
		return 0, err
	}
	return p.size(required, 0)
}
