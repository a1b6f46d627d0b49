package iscsi

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/lab/lio"
)

const key = "correct horse battery staple"

// TestISCSIFormatting is one boot of a guest for what is never formatted, and what is formatted again.
func TestISCSIFormatting(t *testing.T) {
	lab.Long(t, "3 to 5 minutes")
	if !lab.Run(t, guest()) {
		return
	}
	lab.StartInitiator(t)
	for name, test := range map[string]func(*testing.T, *bed){"encrypted": encrypted, "blank": blank, "interrupted": interrupted, "raw": raw} {
		t.Run(name, func(t *testing.T) { test(t, newBed(t)) })
	}
}

// encrypted: LUKS on a disk whose marks are on itself.
func encrypted(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	r := b.request("v", a.Encrypted(backend.Encryption{Type: backend.LUKS2}), "ext4")
	r.Access.Version = 3
	r.Secrets = map[string]string{"passphrase": key}
	for _, op := range []string{"stage.luks.sync", "stage.mkfs", "stage.mkfs.sync", "stage.mark.clear"} {
		b.seam.Fail(op, errors.New("cut short"))
		if err := b.node.Stage(t.Context(), r); err == nil {
			t.Fatalf("staged without %s", op)
		}
		b.seam.Fail(op, nil)
	}
	b.stage(r)
	write(t, filepath.Join(r.Staging, "data"), "nobody else's")
	d.Grow(2 * size)
	if got, err := b.node.Expand(t.Context(), r.Volume, r.Staging); err != nil || got != 2*size {
		t.Errorf("grown to %d, %v", got, err)
	}
	b.unstage(r)
	b.stage(r)
	read(t, filepath.Join(r.Staging, "data"), "nobody else's")
	b.unstage(r)
	plain := b.request("v", a, "ext4")
	errstest.Refused(b.t, "without encryption", b.node.Stage(t.Context(), plain), errs.InUse, "crypto_LUKS")
	r.Secrets["passphrase"] = "wrong"
	errstest.Refused(b.t, "a wrong key", b.node.Stage(t.Context(), r), errs.Invalid)
}

// blank: a disk with something on it is never formatted, wherever that is.
func blank(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	r := b.request("v", a, "ext4")
	for _, at := range []int64{0, 512, 4096, 1 * mib, 3 * mib, 8*mib + 1024, 32 * mib, 64 * mib, 128 * mib, size/4 + 512, size / 2, size - 512} {
		poke(t, d, at, "x")
		errstest.Refused(b.t, "something is there", b.node.Stage(t.Context(), r), errs.InUse, "not blank")
		if got := peek(t, d, at, 1); got != "x" {
			t.Errorf("at %d there is %q now", at, got)
		}
		d.Blank()
	}
	// What was a file system once, and lost its beginning.
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		r.FSType = kind
		b.stage(r)
		write(t, filepath.Join(r.Staging, "data"), "precious")
		b.unstage(r)
		zeros := string(make([]byte, 4*mib))
		poke(t, d, 0, zeros)
		errstest.Refused(b.t, kind+" without its beginning", b.node.Stage(t.Context(), r), errs.InUse, "not blank")
		d.Blank()
	}
}

// interrupted: a formatting that was cut short at any point is done again, and one that was finished never.
func interrupted(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		r := b.request("v", a, kind)
		for _, op := range []string{"stage.mark", "stage.mkfs", "stage.mkfs.sync", "stage.mark.clear", "stage.mkdir", "stage.mount"} {
			b.seam.Fail(op, errors.New("cut short"))
			if err := b.node.Stage(t.Context(), r); err == nil {
				t.Fatalf("staged without %s", op)
			}
			b.seam.Fail(op, nil)
			if op == "stage.mkfs" { // half of a file system
				poke(t, d, 0, string(make([]byte, 64<<10)))
				poke(t, d, 70<<10, "half")
			}
		}
		b.stage(r)
		write(t, filepath.Join(r.Staging, "data"), "precious")
		b.unstage(r)
		b.stage(r)
		read(t, filepath.Join(r.Staging, "data"), "precious")
		b.unstage(r)
		d.Blank()
	}
}

// raw: what the storage says is raw is not formatted, though a formatting was begun and the disk looks blank; nor when the storage has
// forgotten that.
func raw(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	files := b.request("v", a, "ext4")
	b.seam.Fail("stage.mkfs", errors.New("cut short"))
	if err := b.node.Stage(t.Context(), files); err == nil {
		t.Fatal("staged without mkfs")
	}
	b.seam.Fail("stage.mkfs", nil)
	b.unstage(files)
	marked := *a.ISCSI
	marked.Raw = true
	told := a
	told.ISCSI = &marked
	files.Access = told
	errstest.Refused(b.t, "what is raw", b.node.Stage(t.Context(), files), errs.InUse, "will not be formatted")
	device := b.request("v", told, "block")
	b.stage(device)
	poke(t, d, size/2, "precious")
	b.unstage(device)
	files.Access = a
	errstest.Refused(b.t, "what was raw", b.node.Stage(t.Context(), files), errs.InUse, "not blank")
	if got := peek(t, d, size/2, 8); got != "precious" {
		t.Errorf("the data is %q now", got)
	}
	d.Blank()
	crypt := b.request("v", a.Encrypted(backend.Encryption{Type: backend.LUKS2}), "block")
	crypt.Access.Version = 3
	crypt.Secrets = map[string]string{"passphrase": key}
	for range 2 {
		b.stage(crypt)
		b.unstage(crypt)
	}
}

func poke(t *testing.T, d *lio.Disk, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(d.Device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func peek(t *testing.T, d *lio.Disk, at int64, n int) string {
	t.Helper()
	f, err := os.Open(d.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
