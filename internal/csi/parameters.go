package csi

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// The parameters of a storage class that mean something here and not to a backend.
const (
	paramPool        = "pool"
	paramMkfsOptions = "mkfsOptions"
)

// foreignPrefix begins the parameters that the sidecars add for whoever cares.
const foreignPrefix = "csi.storage.k8s.io/"

// The keys of the volume context, which is kept in an immutable PersistentVolume.
const (
	contextAccess      = "dozo.dev/access"       // JSON of backend.Access
	contextMkfsOptions = "dozo.dev/mkfs-options" // words separated by spaces
	contextReadOnly    = "dozo.dev/read-only"    // "true"; of the publish context only
	// AddressesKey is of the publish context only, and for what is mounted from a server: the addresses of the node by which
	// the server knows it, with spaces between.
	AddressesKey = "dozo.dev/addresses"
)

// maxMkfsOptions bounds mkfs options in bytes: the volume context has 4 KiB for everything.
const maxMkfsOptions = 1 << 10

// class is what the parameters of a storage class say.
type class struct {
	pool       *pool.Pool
	parameters map[string]string // those for the backend, complete
	mkfs       []string
}

// classOf finds the pool that parameters name and checks them all. errs.Invalid lists every one that
// is known, wherever it is used.
func classOf(pools *pool.Set, given map[string]string) (class, error) {
	ours := withoutForeign(given)
	p, err := pools.Get(ours[paramPool])
	switch {
	case err != nil && ours[paramPool] == "": // says itself which field is missing
		return class{}, err
	case err != nil:
		return class{}, errs.E(errs.KindOf(err), "parameters[%q]: %w", paramPool, err)
	}
	declared := slices.Concat(frontParameters(), p.Parameters())
	all, err := backend.Complete("parameters", declared, ours)
	if err != nil {
		return class{}, err
	}
	mkfs := strings.Fields(all[paramMkfsOptions])
	for _, f := range frontParameters() {
		delete(all, f.Name)
	}
	return class{pool: p, parameters: all, mkfs: mkfs}, nil
}

// BackendParameters returns those of a class's parameters that are for the backend. They are not checked.
func BackendParameters(given map[string]string) map[string]string {
	ours := withoutForeign(given)
	for _, f := range frontParameters() {
		delete(ours, f.Name)
	}
	return ours
}

func frontParameters() []backend.Parameter {
	return []backend.Parameter{
		{Name: paramPool, Help: "the name of a pool; needed where there are several"},
		{Name: paramMkfsOptions, Help: "options for mkfs, separated by spaces, like \"-m 0 -E lazy_itable_init=0\"", Check: checkMkfsOptions},
	}
}

// checkMkfsOptions refuses what no option of mkfs needs. They are run as root on a node, where a
// word with a slash in it could be another device.
func checkMkfsOptions(s string) error {
	words := strings.Fields(s)
	switch {
	case len(s) > maxMkfsOptions:
		return errs.E(errs.Invalid, "%d bytes long, at most %d are allowed", len(s), maxMkfsOptions)
	case strings.Contains(s, "/"):
		return errs.E(errs.Invalid, "has a slash; paths are not allowed")
	case len(words) > 0 && !strings.HasPrefix(words[0], "-"):
		return errs.E(errs.Invalid, "does not begin with an option")
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }):
		return errs.E(errs.Invalid, "has a character that is not printable ASCII")
	}
	return nil
}

// withoutForeign returns the parameters without those that the sidecars add.
func withoutForeign(given map[string]string) map[string]string {
	ours := map[string]string{}
	for k, v := range given {
		if !strings.HasPrefix(k, foreignPrefix) {
			ours[k] = v
		}
	}
	return ours
}

// VolumeContext returns what a node needs to know of a volume for as long as it lives, as the
// volumeAttributes of its PersistentVolume.
func VolumeContext(v backend.Volume, mkfs []string) (map[string]string, error) {
	if err := v.Access.Check(); err != nil { // it could never be corrected in a PersistentVolume
		return nil, errs.E(errs.Internal, "volume %s: the backend gave a wrong %w", v.ID, err)
	}
	access, err := json.Marshal(v.Access)
	if err != nil {
		return nil, errs.E(errs.Internal, "volume %s: access: %w", v.ID, err)
	}
	context := map[string]string{contextAccess: string(access)}
	if len(mkfs) > 0 {
		context[contextMkfsOptions] = strings.Join(mkfs, " ")
	}
	return context, nil
}

// accessOf returns how to reach the volume h. What the attacher found out for this node wins over
// what was known when the volume was made, but for what that alone knows: which disk it is, and that
// it is encrypted. The contents are not repeated in errors.
func accessOf(h Handle, publish, volume map[string]string) (backend.Access, error) {
	if publish[contextAccess] == "" {
		return readAccess(h, "volume_context", volume[contextAccess])
	}
	given, err := readAccess(h, "publish_context", publish[contextAccess])
	if err != nil || volume[contextAccess] == "" {
		return given, err
	}
	kept, err := readAccess(h, "volume_context", volume[contextAccess])
	switch {
	case err != nil:
		return given, err
	case (given.Mount == nil) != (kept.Mount == nil), (given.ISCSI == nil) != (kept.ISCSI == nil), given.ISCSI != nil && given.ISCSI.WWID != kept.ISCSI.WWID:
		return given, errs.E(errs.Invalid, "publish_context[%q]: it leads to something else than the PersistentVolume does: was the volume made anew under its old name?", contextAccess)
	case kept.Encryption != nil:
		given = given.Encrypted(*kept.Encryption)
	}
	return given, nil
}

func readAccess(h Handle, field, text string) (a backend.Access, err error) {
	if text == "" {
		return a, errs.E(errs.Invalid, "%s[%q]: missing; it comes with the volume and has to be in its PersistentVolume", field, contextAccess)
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, errs.E(errs.Invalid, "%s[%q]: not the JSON of an access", field, contextAccess)
	}
	if err := a.Check(); err != nil {
		return a, errs.E(errs.Invalid, "%s[%q]: %w", field, contextAccess, err)
	}
	if a.Local != nil && (Handle{Pool: a.Local.Pool, ID: a.Local.ID}) != h {
		return a, errs.E(errs.Invalid, "%s[%q]: it leads to volume %s in pool %s, not to %s", field, contextAccess, a.Local.ID, a.Local.Pool, h)
	}
	return a, nil
}

// mkfsOptionsOf returns the mkfs options in a volume context, which anyone can have written who may
// make a PersistentVolume.
func mkfsOptionsOf(context map[string]string) ([]string, error) {
	s := context[contextMkfsOptions]
	if err := checkMkfsOptions(s); err != nil {
		return nil, errs.E(errs.Invalid, "volume_context[%q]: %w", contextMkfsOptions, err)
	}
	return strings.Fields(s), nil
}
