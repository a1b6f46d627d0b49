package pool

import (
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
)

// The parameters of a storage class that mean the same for every kind whose volumes are devices.
const (
	paramEncryption = "encryption"
	paramDiscard    = "encryptionDiscard"

	notEncrypted = "none"
)

// EncryptionParameters are those that the node's encryption of a volume has; see [Pool.Parameters].
func EncryptionParameters() []backend.Parameter {
	return []backend.Parameter{
		{Name: paramEncryption, Default: notEncrypted, Check: backend.OneOf(notEncrypted, backend.LUKS2),
			Help: "luks2 encrypts volumes on the node, with a passphrase from the Secret that the class names as csi.storage.k8s.io/node-stage-secret-name; none does not"},
		{Name: paramDiscard, Default: "false", Check: backend.OneOf("true", "false"),
			Help: "true gives freed space of encrypted volumes back to the storage, which then shows how much of them is in use"},
	}
}

// Parameters are those of a storage class that this pool knows: its kind's, and those for encryption if
// a node can encrypt its volumes. For that they have to be devices, and somebody has to remember
// whether one was ever formatted: the pool, or the node on a device that it is attached.
func (p *Pool) Parameters() []backend.Parameter {
	if p.caps.Attacher == nil && (p.caps.Activator == nil || p.caps.Marker == nil) {
		return p.kind.Parameters
	}
	return slices.Concat(p.kind.Parameters, EncryptionParameters())
}

// IsEncrypted reports whether complete parameters ask for encryption.
func IsEncrypted(parameters map[string]string) bool {
	kind := parameters[paramEncryption]
	return kind != "" && kind != notEncrypted
}

// encryption takes the parameters that are not the backend's out of complete ones, and returns what they
// ask for, nil for none.
func encryption(parameters map[string]string) *backend.Encryption {
	wanted, kind, discard := IsEncrypted(parameters), parameters[paramEncryption], parameters[paramDiscard]
	delete(parameters, paramEncryption)
	delete(parameters, paramDiscard)
	if !wanted {
		return nil
	}
	return &backend.Encryption{Type: kind, Discard: discard == "true"}
}
