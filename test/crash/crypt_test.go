package crash

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/crypt"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
)

// encryptedUse is a volume whose device is encrypted.
type encryptedUse struct{ use }

func (u encryptedUse) create() Step {
	return Step{Name: "create " + u.name, Tried: true, Do: func(ctx context.Context, d Driver) error {
		_, err := d.Pool.Create(ctx, pool.VolumeRequest{Name: u.name, Required: u.size, Parameters: map[string]string{"encryption": "luks2"}})
		return err
	}}
}

// stage stages it with a passphrase, which may be a new one.
func (u encryptedUse) stage(passphrase, previous string) Step {
	return Step{Name: "stage " + u.name + " with " + passphrase, Do: func(ctx context.Context, d Driver) error {
		if err := os.MkdirAll(u.staging(d), 0o700); err != nil {
			return err
		}
		return d.Node.Stage(ctx, node.StageRequest{
			Volume: u.handle(), Staging: u.staging(d), FSType: u.fs,
			Access:  backend.LocalAccess("p", backend.ID(u.name)).Encrypted(backend.Encryption{Type: backend.LUKS2}),
			Secrets: map[string]string{"passphrase": passphrase, "previous-passphrase": previous},
		})
	}}
}

// TestEncryptedVolume kills what encryption adds to a volume's life, and what is written beside it.
func TestEncryptedVolume(t *testing.T) {
	lab.Long(t, "5 to 10 minutes")
	if !lab.Run(t, lab.Guest{MemoryMiB: 1024, Modules: []string{"loop", "dm-crypt", "xts", "algif_skcipher"}, Programs: []string{"cryptsetup"}}) {
		return
	}
	u := encryptedUse{use{"v", "ext4", 64 * mib}}
	steps := []Step{
		u.create(), u.stage("first", ""), tried(u.publish())[0], tried(u.write())[0], u.expand(256 * mib), tried(u.unpublish())[0],
		u.unstage(), u.stage("second", "first"), tried(u.publish())[0], tried(u.verify())[0], tried(u.unpublish())[0],
		tried(u.unstage())[0], tried(u.delete())[0],
	}
	open := func(ctx context.Context, h *host.Host, dir string) (Driver, error) {
		h.Runner = hosttest.CheapKeys{Runner: h.Runner}
		return openLoopfile(ctx, h, dir)
	}
	Try(t, Path{Open: open, Steps: steps, Only: ofEncryption, Close: func(dir string) {
		release(dir)
		_ = crypt.Close(context.Background(), host.New(), crypt.Name(u.handle())) // it is open only after a failed run
		release(dir)
	}})
}

func ofEncryption(op string) bool {
	return strings.Contains(op, "luks") || strings.HasPrefix(op, "stage.mkfs")
}

// TestEncryptionHasEffects: labels that nobody has would not be killed at.
func TestEncryptionHasEffects(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "internal", "host", "crypt", "crypt.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"stage.luks.format", "stage.luks.sync", "stage.luks.open", "stage.luks.addkey", "stage.luks.removekey", "luks.resize", "unstage.luks.close"} {
		if !strings.Contains(string(source), `"`+op+`"`) || !ofEncryption(op) {
			t.Errorf("%s: no effect of that label", op)
		}
	}
}
