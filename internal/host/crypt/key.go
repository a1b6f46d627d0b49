package crypt

import (
	"bytes"

	"github.com/dozo-dev/dozo/internal/errs"
)

// The keys of a secret.
const (
	SecretPassphrase = "passphrase"
	SecretPrevious   = "previous-passphrase"
)

// maxPassphrase bounds a passphrase in bytes.
const maxPassphrase = 4096

// Key is what opens a volume. It shows nothing of itself when it is printed.
type Key struct{ passphrase, previous []byte }

// String is [fmt.Stringer].
func (Key) String() string { return "(secret)" }

// GoString is [fmt.GoStringer].
func (Key) GoString() string { return "(secret)" }

// KeyFrom returns the key in a secret. errs.Invalid names what is missing or too long.
func KeyFrom(secrets map[string]string) (Key, error) {
	k := Key{passphrase: []byte(secrets[SecretPassphrase])}
	if len(k.passphrase) == 0 {
		return Key{}, errs.E(errs.Invalid, "secrets[%q]: missing; the volume is encrypted, so its storage class has to name a Secret with it: csi.storage.k8s.io/node-stage-secret-name and -namespace", SecretPassphrase)
	}
	if previous := secrets[SecretPrevious]; previous != "" && previous != secrets[SecretPassphrase] {
		k.previous = []byte(previous)
	}
	if len(k.passphrase) > maxPassphrase || len(k.previous) > maxPassphrase {
		return Key{}, errs.E(errs.Invalid, "secrets: a passphrase has at most %d bytes", maxPassphrase)
	}
	if bytes.ContainsRune(k.passphrase, 0) || bytes.ContainsRune(k.previous, 0) {
		return Key{}, errs.E(errs.Invalid, "secrets: a passphrase has a zero byte")
	}
	return k, nil
}

// wrong says which secret is wrong, and nothing of it.
func (k Key) wrong(device string) error {
	also := ""
	if k.previous != nil {
		also = ", nor does secrets[\"" + SecretPrevious + "\"]"
	}
	return errs.E(errs.Invalid, "secrets[%q]: does not open device %s%s; nothing was changed. The Secret is the one that the storage class named as csi.storage.k8s.io/node-stage-secret-name when the volume, or what it is a copy of, was made",
		SecretPassphrase, device, also)
}
