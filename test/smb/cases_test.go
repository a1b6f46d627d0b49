package smb

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

// anybody: what a container's user may do does not depend on who that is, and symbolic links are there. To change the owner, as the
// kubelet does for fsGroup, is no error.
func anybody(b *bed, dir string) {
	b.t.Helper()
	b.ok(os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	for _, change := range []error{os.Lchown(filepath.Join(dir, "sub"), -1, 4711), os.Chmod(filepath.Join(dir, "sub"), 0o2775|fs.ModeSetgid)} {
		b.ok(change)
	}
	for at := filepath.Dir(dir); at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // a test's directory is its own
		b.ok(os.Chmod(at, 0o711))
	}
	lab.Output(b.t, "setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "--", "touch", filepath.Join(dir, "sub", "file"))
	b.ok(os.Symlink("file", filepath.Join(dir, "sub", "link")))
	if to, err := os.Readlink(filepath.Join(dir, "sub", "link")); err != nil || to != "file" {
		b.t.Errorf("the link is %q, %v", to, err)
	}
}

// secrets: the password is nowhere that anybody could read it.
func secrets(b *bed) {
	ctx, n := b.t.Context(), b.nodes["n1"]
	r := b.stageRequest(b.create("secrets"), "n1")
	r.Secrets["domain"] = "WORKGROUP"
	b.ok(b.stage("n1", r))
	look := func(where string, text []byte) {
		b.t.Helper()
		if bytes.Contains(text, []byte(naslab.UserPassword)) || bytes.Contains(text, []byte("pass,word")) {
			b.t.Errorf("%s has the password", where)
		}
	}
	look("an argument", []byte(b.argv.String()))
	if !strings.Contains(b.argv.String(), "credentials=/proc/self/fd/0") {
		b.t.Errorf("programs: %s", b.argv)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	b.ok(err)
	look("the mount table", table)
	b.ok(filepath.WalkDir(filepath.Join(b.dir, "n1", "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	}))
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))

	wrong := r
	wrong.Secrets = map[string]string{"username": naslab.User, "password": "wrong"}
	errstest.Refused(b.t, "a wrong password", b.stage("n1", wrong), errs.Invalid, `secrets["password"]`, "node-stage-secret-name")
	before := b.mounts()
	for range 5 {
		errstest.Refused(b.t, "a wrong password", b.stage("n1", wrong), errs.Invalid, `secrets["password"]`, "node-stage-secret-name")
	}
	errstest.Refused(b.t, "a wrong password, again", n.Stage(ctx, wrong), errs.Invalid, "not tried again before")
	if tried := b.mounts() - before; tried != 0 {
		b.t.Errorf("a wrong password was tried %d times more", tried)
	}
	b.ok(b.stage("n1", r)) // the right one is another login
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))
}

func refuses(b *bed) {
	ctx, n := b.t.Context(), b.nodes["n1"]
	r := b.stageRequest(b.create("refuses"), "n1")
	for what, change := range map[string]func(*node.StageRequest){
		"volumeMode":          func(r *node.StageRequest) { r.Block = true },
		"fs_type":             func(r *node.StageRequest) { r.FSType = "nfs" },
		"mkfs":                func(r *node.StageRequest) { r.MkfsOptions = []string{"-q"} },
		"ip=":                 func(r *node.StageRequest) { r.MountOptions = []string{"ip=127.0.0.2"} },
		"the Secret":          func(r *node.StageRequest) { r.MountOptions = []string{"password=x"} },
		"mount_options":       func(r *node.StageRequest) { r.MountOptions = []string{"bogus"} },
		"node-stage-secret":   func(r *node.StageRequest) { r.Secrets = nil },
		`secrets["username"]`: func(r *node.StageRequest) { r.Secrets = map[string]string{"username": "a,uid=0", "password": "x"} },
	} {
		other := r
		change(&other)
		errstest.Refused(b.t, what, n.Stage(ctx, other), errs.Invalid, what)
	}
	absent := r
	absent.Access = backend.MountAccess(backend.Mount{Type: backend.CIFS, Source: r.Access.Mount.Source + "-not"})
	errstest.Refused(b.t, "no such share", n.Stage(ctx, absent), errs.Unavailable)
	r.FSType = backend.CIFS
	b.ok(b.stage("n1", r)) // none of that keeps the right one from being mounted
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))
}

// quota: what does not fit is an error of the writer's, until the volume is larger, which is felt at once.
func quota(b *bed) {
	ctx, n := b.t.Context(), b.nodes["n1"]
	id := b.create("quota")
	r := b.stageRequest(id, "n1")
	b.ok(b.stage("n1", r))
	data := bytes.Repeat([]byte("0123456789abcdef"), mib/16)
	write := func(name string) error {
		return hosttest.WriteThrough(filepath.Join(r.Staging, name), slices.Repeat(data, size/mib*3/4))
	}
	b.ok(write("one"))
	if err := write("two"); !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		b.t.Errorf("more than the quota: %v", err)
	}
	v, err := b.pool.(backend.Expander).Expand(ctx, id, 4*size)
	b.ok(err)
	if v.Size != 4*size {
		b.t.Errorf("expanded to %d", v.Size)
	}
	_, err = n.Expand(ctx, r.Volume, r.Staging)
	b.ok(err)
	b.ok(write("three"))
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))
}

// permission: who is detached is let in no more, and who has it to read does not write.
func permission(b *bed) {
	ctx, n := b.t.Context(), b.nodes["n1"]
	id := b.create("permission")
	r := b.stageRequest(id, "n1")
	b.ok(b.stage("n1", r))
	b.ok(hosttest.WriteThrough(filepath.Join(r.Staging, "data"), []byte("kept")))
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))
	b.detach(id, "n1")
	errstest.Refused(b.t, "Stage of a detached volume", b.stage("n1", r), errs.Invalid, "permission for the share")

	_, err := b.pool.(backend.Attacher).Attach(ctx, id, backend.AttachRequest{Node: "n1", ReadOnly: true})
	b.ok(err)
	b.restart("n1") // which does not remember the refusal
	n = b.nodes["n1"]
	b.ok(b.stage("n1", r))
	b.expect(filepath.Join(r.Staging, "data"), "kept")
	if err := hosttest.WriteThrough(filepath.Join(r.Staging, "more"), []byte("x")); err == nil {
		b.t.Error("a node that is admitted to read wrote")
	}
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))
}

// away: nothing waits for ever for a NAS without power, and a write that does is done in the end.
func away(b *bed) {
	ctx, n := b.t.Context(), b.nodes["n1"]
	id := b.create("away")
	r, other := b.stageRequest(id, "n1"), b.stageRequest(b.create("other"), "n1")
	b.ok(b.stage("n1", r))
	p, late := b.publishRequest(r, "pod"), b.publishRequest(r, "late")
	b.ok(n.Publish(ctx, p))
	b.ok(hosttest.WriteThrough(filepath.Join(p.Target, "data"), []byte("kept")))
	written := make(chan error, 1)
	b.PowerCycle(func() {
		go func() { written <- hosttest.WriteThrough(filepath.Join(p.Target, "waits"), []byte("for the NAS")) }()
		_, err := n.Stats(ctx, r.Volume, p.Target)
		errstest.Refused(b.t, "Stats", err, errs.Unavailable, "no answer")
		problems, err := n.Health(ctx, r.Volume)
		if err != nil || !slices.ContainsFunc(problems, func(p backend.Problem) bool { return p.Reason == node.ReasonNoAnswer }) {
			b.t.Errorf("health: %v, %v", problems, err)
		}
		errstest.Refused(b.t, "Publish", n.Publish(ctx, late), errs.Unavailable)
		errstest.Refused(b.t, "Stage of another", n.Stage(ctx, other), errs.Unavailable)
		b.ok(n.Stage(ctx, r)) // finds it, without asking
	})
	b.ok(<-written)
	b.expect(filepath.Join(p.Target, "waits"), "for the NAS")
	b.ok(b.stage("n1", other))
	b.ok(n.Unstage(ctx, other.Volume, other.Staging))
	b.PowerCycle(func() {
		b.ok(n.Unpublish(ctx, r.Volume, p.Target))
		// A client that still knows the directory has nothing to ask: what a file was closed with is on the server. Otherwise it waits.
		soon, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if err := n.Unstage(soon, r.Volume, r.Staging); err != nil && !soonAgain(err) {
			b.t.Errorf("Unstage without a server: %v", err)
		}
	})
	b.ok(b.unstage("n1", r))
	b.ok(b.stage("n1", r))
	b.expect(filepath.Join(r.Staging, "data"), "kept")
	b.ok(n.Unstage(ctx, r.Volume, r.Staging))
}
