package iscsi

import (
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// The keys of a secret: open-iscsi's own names, which are Kubernetes' too.
const (
	SecretUser       = "node.session.auth.username"
	SecretPassword   = "node.session.auth.password"
	SecretUserIn     = "node.session.auth.username_in"
	SecretPasswordIn = "node.session.auth.password_in"
)

// maxCHAP bounds a user name and a password in bytes: open-iscsi's AUTH_STR_MAX_LEN.
const maxCHAP = 255

// CHAP is what an initiator logs in with, and with the second two what the target has to answer with. It shows
// nothing of itself when it is printed.
type CHAP struct{ user, password, userIn, passwordIn string }

// String is [fmt.Stringer].
func (CHAP) String() string { return "(secret)" }

// GoString is [fmt.GoStringer].
func (CHAP) GoString() string { return "(secret)" }

// CHAPFrom returns what is in a secret. errs.Invalid names what is missing or cannot be, and nothing of its value.
func CHAPFrom(secrets map[string]string) (*CHAP, error) {
	for _, key := range []string{SecretUser, SecretPassword, SecretUserIn, SecretPasswordIn} {
		value := secrets[key]
		switch {
		case value == "" && (key == SecretUser || key == SecretPassword):
			return nil, errs.E(errs.Invalid, "secrets[%q]: missing; the volume's target wants a login, so its storage class has to name a Secret with it: csi.storage.k8s.io/node-stage-secret-name and -namespace", key)
		case len(value) > maxCHAP:
			return nil, errs.E(errs.Invalid, "secrets[%q]: is longer than %d bytes", key, maxCHAP)
		case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || value == "<empty>":
			return nil, errs.E(errs.Invalid, "secrets[%q]: has a space, or another character that is not ASCII and visible, which open-iscsi's records cannot hold", key)
		}
	}
	if (secrets[SecretUserIn] == "") != (secrets[SecretPasswordIn] == "") {
		return nil, errs.E(errs.Invalid, "secrets[%q], secrets[%q]: only one is there; the target is checked by both or by none", SecretUserIn, SecretPasswordIn)
	}
	return &CHAP{secrets[SecretUser], secrets[SecretPassword], secrets[SecretUserIn], secrets[SecretPasswordIn]}, nil
}
