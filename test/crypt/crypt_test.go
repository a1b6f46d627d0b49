package crypt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/test/lab"
)

// TestEncryption is one boot of a guest for all of it.
func TestEncryption(t *testing.T) {
	if !lab.Run(t, guest()) {
		return
	}
	for name, test := range map[string]func(*testing.T, *bed){
		"life": life, "keys": keys, "copies": copies, "block": block, "refuses": refuses, "interrupted": interrupted,
	} {
		t.Run(name, func(t *testing.T) {
			var runner host.Runner = hosttest.CheapKeys{Runner: host.Exec{}}
			if name == "life" { // as it is outside of tests
				runner = host.Exec{}
			}
			test(t, newBed(t, onDisk(t), runner))
		})
	}
}

// life: made, used, grown while in use, closed and opened again.
func life(t *testing.T, b *bed) {
	v := b.create("v", 64*mib, backend.Source{}, encrypted())
	if v.Access.Encryption == nil || v.Access.Version != 2 {
		t.Fatalf("the access is %+v: a node would not encrypt it", v.Access)
	}
	b.mustStage(v, key)
	b.mustStage(v, key) // finds all done
	const text = "that nobody else can read this"
	b.write(v, "data", strings.Repeat(text, 1000))
	target := filepath.Join(b.dir, "pods", "v")
	publish := node.PublishRequest{Volume: handle(v), Staging: b.staging(v), Target: target}
	if err := b.node.Publish(t.Context(), publish); err != nil {
		t.Fatal(err)
	}
	before, err := b.node.Stats(t.Context(), handle(v), target)
	if err != nil || before.TotalBytes == 0 || before.TotalBytes > 48*mib {
		t.Errorf("stats: %+v, %v", before, err)
	}
	size, err := b.expand(v, target, 128*mib)
	if err != nil || size != 128*mib {
		t.Errorf("grown to %d, %v, want the volume's size", size, err)
	}
	after, err := b.node.Stats(t.Context(), handle(v), target)
	if err != nil || after.TotalBytes < before.TotalBytes+56*mib {
		t.Errorf("the file system had %d bytes and has %d, %v", before.TotalBytes, after.TotalBytes, err)
	}
	if problems, err := b.node.Health(t.Context(), handle(v)); err != nil || len(problems) > 0 {
		t.Errorf("health: %v, %v", problems, err)
	}
	if err := b.node.Unpublish(t.Context(), handle(v), target); err != nil {
		t.Fatal(err)
	}
	b.secret(key)
	t.Logf("cryptsetup status\n%s", lab.Output(t, "cryptsetup", "status", filepath.Base(mappings(t)[0])))
	b.unstage(v)
	b.unstage(v)
	image, err := os.ReadFile(b.image(v))
	if err != nil || bytes.Contains(image, []byte(text)) || !bytes.HasPrefix(image, []byte("LUKS\xba\xbe")) {
		t.Errorf("the image begins with %.6q (%v), or has the text in it", image, err)
	}
	b.mustStage(v, key)
	b.holds(v, "data", strings.Repeat(text, 1000))
	b.unstage(v)
	b.delete(v)
}

// keys: a wrong one changes nothing, and one can be replaced by another.
func keys(t *testing.T, b *bed) {
	const next = "another passphrase\n with a line break"
	v := b.create("v", 64*mib, backend.Source{}, encrypted())
	b.refused(b.stage(v, nil), errs.Invalid, "passphrase", "node-stage-secret-name")
	b.mustStage(v, key)
	b.write(v, "data", "mine")
	b.unstage(v)
	before, err := os.ReadFile(b.image(v))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]string{{"wrong"}, {"wrong", "also wrong"}, {key + "\n"}, {key[:8]}} {
		b.refused(b.stage(v, nil, wrong...), errs.Invalid, "does not open", "nothing was changed", "node-stage-secret-name")
		after, err := os.ReadFile(b.image(v))
		if err != nil || !bytes.Equal(before, after) {
			t.Fatalf("%q changed the volume (%v)", wrong, err)
		}
	}
	if left := mappings(t); len(left) > 0 {
		t.Errorf("left open: %v", left)
	}
	b.mustStage(v, next, key) // replaces
	b.holds(v, "data", "mine")
	b.unstage(v)
	b.refused(b.stage(v, nil, key), errs.Invalid, "does not open")
	b.mustStage(v, next, key) // finds that it is replaced
	b.unstage(v)
	b.mustStage(v, next, next) // nothing to replace: the only key must not go
	b.unstage(v)
	b.mustStage(v, next)
	b.holds(v, "data", "mine")
	b.secret(key, "another passphrase")
	b.unstage(v)
	if n := strings.Count(lab.Output(t, "cryptsetup", "luksDump", b.image(v)), ": luks2\n"); n != 1 {
		t.Errorf("%d keys, want the new one", n)
	}
	b.delete(v)
}

// copies are opened with their source's key, also beside it.
func copies(t *testing.T, b *bed) {
	v := b.create("v", 64*mib, backend.Source{}, encrypted())
	b.mustStage(v, key)
	b.write(v, "data", "before")
	s, err := b.pool.Snapshot(t.Context(), "s", v.ID)
	if err != nil {
		t.Fatal(err)
	}
	b.write(v, "data", "after")
	restored := b.create("restored", 128*mib, backend.Source{Snapshot: s.ID}, encrypted())
	b.mustStage(restored, key)
	b.holds(restored, "data", "before")
	b.holds(v, "data", "after")
	if st, err := b.node.Stats(t.Context(), handle(restored), b.staging(restored)); err != nil || st.TotalBytes < 90*mib {
		t.Errorf("the larger copy: %+v, %v", st, err)
	}
	b.unstage(v)
	clone := b.create("clone", 64*mib, backend.Source{Volume: v.ID}, encrypted())
	b.mustStage(clone, key)
	b.holds(clone, "data", "after")
	plain := b.create("plain", 64*mib, backend.Source{Volume: v.ID}, nil)
	b.refused(b.stage(plain, nil), errs.InUse, "crypto_LUKS")
	b.unstage(clone)
	b.unstage(restored)
	if err := b.pool.DeleteSnapshot(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	b.delete(v, restored, clone, plain)
}

// block is a volume without a file system of ours.
func block(t *testing.T, b *bed) {
	v := b.create("v", 64*mib, backend.Source{}, encrypted())
	raw := func(r *node.StageRequest) { r.Block, r.FSType = true, "" }
	if err := b.stage(v, raw, key); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(b.dir, "pods", "v")
	if err := b.node.Publish(t.Context(), node.PublishRequest{Volume: handle(v), Staging: b.staging(v), Target: target, Block: true}); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("raw!"), 1024)
	if err := os.WriteFile(target, data, 0); err != nil {
		t.Fatal(err)
	}
	if size, err := b.expand(v, target, 96*mib); err != nil || size != 96*mib {
		t.Errorf("grown to %d, %v", size, err)
	}
	st, err := b.node.Stats(t.Context(), handle(v), target)
	if err != nil || st.TotalBytes != 80*mib { // the header takes 16 MiB
		t.Errorf("stats: %+v, %v", st, err)
	}
	if problems, err := b.node.Health(t.Context(), handle(v)); err != nil || len(problems) > 0 {
		t.Errorf("health: %v, %v", problems, err)
	}
	if err := b.node.Unpublish(t.Context(), handle(v), target); err != nil {
		t.Fatal(err)
	}
	b.unstage(v)
	b.refused(b.stage(v, nil, key), errs.InUse, "block device before") // never formatted over
	if err := b.stage(v, raw, key); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	f, err := os.Open(mappings(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the data is not there: %v", err)
	}
	f.Close()
	b.unstage(v)
	b.delete(v)
}

// refuses: nothing is formatted that could hold data.
func refuses(t *testing.T, b *bed) {
	plain := b.create("plain", 64*mib, backend.Source{}, nil)
	b.mustStage(plain)
	b.unstage(plain)
	asked := plain
	asked.Access = plain.Access.Encrypted(backend.Encryption{Type: backend.LUKS2})
	b.refused(b.stage(asked, nil, key), errs.InUse, "used as ext4 without encryption")

	foreign := b.create("foreign", 64*mib, backend.Source{}, encrypted())
	f, err := os.OpenFile(b.image(foreign), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("a database of its own format"), 512); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.refused(b.stage(foreign, nil, key), errs.InUse, "not blank")

	v := b.create("v", 64*mib, backend.Source{}, encrypted())
	b.refused(b.stage(v, func(r *node.StageRequest) { r.ReadOnly = true }, key), errs.InUse, "only read")
	b.mustStage(v, key)
	b.unstage(v)
	if f, err = os.OpenFile(b.image(v), os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 16*mib), 0); err != nil { // the header, both copies
		t.Fatal(err)
	}
	f.Close()
	b.refused(b.stage(v, nil, key), errs.Internal, "shows no LUKS header", "will not be formatted again")
	if left := mappings(t); len(left) > 0 {
		t.Errorf("left open: %v", left)
	}
	b.delete(plain, foreign, v)
}

// interrupted: what a killed driver left is found, and gone on with.
func interrupted(t *testing.T, b *bed) {
	v := b.create("v", 64*mib, backend.Source{}, encrypted())
	for _, m := range []backend.Mark{{FS: "luks2"}, {FS: "luks2", Done: true}} {
		t.Run(fmt.Sprintf("%s, done %v", m.FS, m.Done), func(t *testing.T) {
			b.t = t
			if m.Done { // the header is there, mkfs is not
				if err := b.stage(v, func(r *node.StageRequest) { r.MkfsOptions = []string{"-O", "nonsense"} }, key); err == nil {
					t.Fatal("mkfs with options that are none")
				}
			}
			if got, _, err := b.pool.Mark(t.Context(), v.ID); m.Done && (err != nil || got != m) {
				t.Fatalf("the mark is %+v, %v", got, err)
			}
			if err := b.pool.SetMark(t.Context(), v.ID, m); err != nil {
				t.Fatal(err)
			}
			b.mustStage(v, key)
			if got, _, err := b.pool.Mark(t.Context(), v.ID); err != nil || got != (backend.Mark{FS: "luks2/ext4", Done: true}) {
				t.Errorf("the mark is %+v, %v", got, err)
			}
			b.unstage(v)
			if err := b.pool.Delete(t.Context(), v.ID); err != nil {
				t.Fatal(err)
			}
			v = b.create("v", 64*mib, backend.Source{}, encrypted())
		})
	}
	b.t = t
	b.delete(v)
}
