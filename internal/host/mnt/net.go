package mnt

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// NetFS is a file system on a server.
type NetFS struct {
	Source   string   // "server:/path"
	Words    []string // options as for mount(8), the last one of several that contradict each other in force
	ReadOnly bool     // as well as by the options
}

// netTimeout bounds the mount of a file system on a server.
const netTimeout = 45 * time.Second

// CheckNet returns errs.Invalid for options that would make another server's file system of it, or say who logs in, which
// everybody could read then.
func CheckNet(field string, options []string) error {
	for _, o := range options {
		switch key, _, _ := strings.Cut(o, "="); key {
		case "addr", "ip", "mountaddr", "mounthost", "mountport", "port", "unc", "target", "path", "prefixpath":
			return errs.E(errs.Invalid, "%s: %.80q: names another server, or something else on it; the volume is on its own", field, o)
		case "username", "pass", "password", "password2", "cred", "credentials", "dom", "domain", "workgroup", "guest", "multiuser", "cruid":
			return errs.E(errs.Invalid, "%s: %s: who logs in is said by the Secret alone (%s, %s, %s)", field, key, SecretUser, SecretPassword, SecretDomain)
		}
	}
	return nil
}

// MountNFS mounts a file system by NFS at the place, an empty directory, and verifies it in the mount table. A program
// does it, which can be killed when the server is away: errs.Unavailable.
//
// It is mounted hard, as is the default: a server that is away is waited for, and no write is lost. retry=0:
// it is for our callers to try again. Of the versions it is the newest 4 that both sides know, unless the options say which.
func MountNFS(ctx context.Context, h *host.Host, op string, p *Place, fs NetFS) (*host.MountInfo, error) {
	options, err := ParseOptions("mount_options", fs.Words)
	if err != nil {
		return nil, err
	}
	ro := fs.ReadOnly || options.ReadOnly
	m, err := p.mountNet(ctx, h, fs.Source, "nfs", host.Cmd{Op: op, Name: "mount.nfs"}, withReadOnly(append(nfsDefaults(fs.Words), fs.Words...), ro))
	if _, ran := host.ExitCode(err); err != nil && ran {
		return nil, nfsError(err, p, fs)
	}
	if err != nil {
		return nil, err
	}
	return m, options.verify(p, m, ro)
}

// nfsVersion is a word by which mount.nfs is told which version to use. It takes one only.
var nfsVersion = regexp.MustCompile(`^((nfs)?vers=|v[234])`)

// nfsDefaults keep mount.nfs from repeating by itself, and from going down to version 3 where the words do not ask for that: locks
// would need rpc.statd on the node then.
func nfsDefaults(words []string) []string {
	if slices.ContainsFunc(words, nfsVersion.MatchString) {
		return []string{"retry=0"}
	}
	return []string{"retry=0", "vers=4"}
}

// nfsError is about a mount that mount.nfs did not do.
func nfsError(err error, p *Place, fs NetFS) error {
	text := err.Error()
	noVersion := strings.Contains(text, "Protocol not supported") || strings.Contains(text, "requested NFS version")
	switch {
	case strings.Contains(text, "incorrect mount option"), strings.Contains(text, "multiple version options"):
		return errs.E(errs.Invalid, "mount_options: %q: %w", fs.Words, err)
	case noVersion && !slices.ContainsFunc(fs.Words, nfsVersion.MatchString):
		return errs.E(errs.Unavailable, "mount %s at %s: the server does not serve NFS version 4, or this node's kernel lacks it (nfsv4); let the server serve version 4.1 "+
			"(version 3, which has to be asked for with the mount option vers=3, needs rpc.statd on the node for locks): %w", fs.Source, p.path, err)
	}
	return errs.E(errs.Unavailable, "mount %s at %s: %w", fs.Source, p.path, err)
}

func withReadOnly(words []string, ro bool) []string {
	if ro {
		words = append(words, "ro")
	}
	return words
}

// mountNet runs a program that mounts. That it says no is a [host.ExitError].
func (p *Place) mountNet(ctx context.Context, h *host.Host, source, kind string, c host.Cmd, words []string) (*host.MountInfo, error) {
	c.Args, c.Timeout = []string{source, p.path, "-o", strings.Join(words, ",")}, netTimeout
	if _, err := h.Run(ctx, c); err != nil {
		return nil, err
	}
	m, err := p.Mounted()
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, p.notInTable()
	}
	if !IsNet(m, kind, source) {
		return nil, errs.E(errs.Internal, "%s: %s was mounted and is %s (%s)", p.field, source, m.Source, m.FsType)
	}
	return m, nil
}

// answerTimeout is how long a server has to answer. One that works does in milliseconds.
const answerTimeout = 10 * time.Second

// UseNet is [Place.Use] of a file system on a server. A program asks, which can be killed: a thread of ours that waits for
// the server would keep the mount in use.
func (p *Place) UseNet(ctx context.Context) (st unix.Statfs_t, err error) {
	out, err := p.host.Run(ctx, host.Cmd{Op: "path.statfs", Reads: true, Name: "stat", Timeout: answerTimeout,
		Args: []string{"--file-system", "--format=%S %s %b %f %a %c %d", "--", p.path}})
	if err != nil {
		return st, errs.E(errs.Unavailable, "%s: %s: no answer from its server: %w", p.field, p.path, err)
	}
	_, err = fmt.Sscan(string(out.Stdout), &st.Frsize, &st.Bsize, &st.Blocks, &st.Bfree, &st.Bavail, &st.Files, &st.Ffree)
	if err != nil {
		return st, errs.E(errs.Internal, "%s: %s: stat said %.80q: %w", p.field, p.path, out.Stdout, err)
	}
	return st, nil
}

// IsNet reports whether m is a mount of what is at a source, by a type as in a backend.Mount.
func IsNet(m *host.MountInfo, kind, source string) bool {
	plain := func(s string) string { return strings.TrimRight(s, "/") }
	return (m.FsType == kind || kind == "nfs" && m.FsType == "nfs4") && plain(m.Source) == plain(source)
}
