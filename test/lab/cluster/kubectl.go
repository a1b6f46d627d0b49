package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kubectl becomes kubectl, as the administrator.
func (l *Lab) Kubectl(_ context.Context, args []string) error {
	s, err := l.spec()
	if err != nil {
		return err
	}
	program := filepath.Join(s.Bin, "kubectl")
	env := append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
	return unix.Exec(program, append([]string{"kubectl"}, args...), env)
}

// Env prints what a shell needs to use the lab's programs by name.
func (l *Lab) Env(_ context.Context, out io.Writer) error {
	s, err := l.spec()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "export KUBECONFIG='%s'\nexport PATH='%s':\"$PATH\"\n", l.Kubeconfig(), s.Bin); err != nil || !s.NAS {
		return err
	}
	nas, err := l.NAS()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "export DOZO_NAS_URL='%s'\nexport DOZO_NAS_ACCOUNT='%s'\nexport DOZO_NAS_PASSWORD='%s'\nexport DOZO_NAS_CA='%s'\n",
		nas.URL, nas.Account, nas.Password, nas.CA)
	return err
}
