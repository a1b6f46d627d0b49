package node

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/fs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

// A volume that is a file system on a server has no device. It is mounted when it is staged, and bound like any
// other; nothing is formatted, checked or grown.

// checkContent returns errs.Invalid unless what is to be on the volume can be.
func (r StageRequest) checkContent() error {
	m := r.Access.Mount
	switch {
	case m == nil:
		return fs.Request{Type: r.FSType, MkfsOptions: r.MkfsOptions}.Check()
	case r.Block:
		return errs.E(errs.Invalid, "volume_capability: the volume is a file system on a server and has no block device; set volumeMode: Filesystem")
	case r.FSType != "" && r.FSType != m.Type:
		return errs.E(errs.Invalid, "fs_type: %.40q, and the volume is a file system on a server, by %s; leave csi.storage.k8s.io/fstype out of its storage class", r.FSType, m.Type)
	case len(r.MkfsOptions) > 0:
		return errs.E(errs.Invalid, "mkfs_options: the volume is a file system on a server, and is not formatted here")
	}
	return mnt.CheckNet(fieldOptions, slices.Concat(m.Options, r.MountOptions))
}

// plain is an access as it is after it was stored: none is nil.
func plain(a backend.Access) backend.Access {
	if a.Mount != nil && len(a.Mount.Options) == 0 {
		m := *a.Mount
		m.Options = nil
		a.Mount = &m
	}
	return a
}

func versionFor(a backend.Access) int {
	if a.Local == nil {
		return remoteRecord
	}
	return plainRecord
}

// mountNet mounts what is on a server.
func (s *staging) mountNet(ctx context.Context) error {
	if err := s.directory(); err != nil {
		return err
	}
	m := s.rec.Access.Mount
	backend.Progress(ctx, "mount "+m.Source)
	if m.Type == backend.CIFS {
		return s.mountCIFS(ctx, s.netFS())
	}
	_, err := mnt.MountNFS(ctx, s.node.host, "stage.mount", s.at, s.netFS())
	return err
}

func (s *staging) netFS() mnt.NetFS {
	m := s.rec.Access.Mount
	return mnt.NetFS{Source: m.Source, Words: slices.Concat(m.Options, s.rec.MountOptions), ReadOnly: s.rec.ReadOnly}
}

// mountCIFS mounts with the login in the secrets, which are kept nowhere.
func (s *staging) mountCIFS(ctx context.Context, fs mnt.NetFS) error {
	login, err := mnt.LoginFrom(s.r.Secrets)
	if err != nil {
		return err
	}
	server, _, _ := strings.Cut(strings.TrimPrefix(fs.Source, "//"), "/")
	return s.node.logins.Do(ctx, server, login, func() error {
		_, err := mnt.MountCIFS(ctx, s.node.host, "stage.mount", s.at, fs, login)
		return err
	})
}

// repeatNet finds at the staging path what is mounted from a server.
func (s *staging) repeatNet(_ context.Context) error {
	if !s.node.ours(s.found, s.rec) {
		return errs.E(errs.InUse, "%s: %s has something else mounted: %s (%s); it is left as it is", fieldStaging, s.rec.Staging, s.found.Source, s.found.FsType)
	}
	if s.rec.Access.Mount.Type == backend.CIFS {
		if _, err := s.at.FinishCIFS("stage.mount.attributes", s.netFS()); err != nil {
			return err
		}
	}
	return s.node.save("stage.record", s.rec)
}

// use asks the file system at one of a volume's places how full it is.
func (n *Node) use(ctx context.Context, rec *record, at *mnt.Place) (unix.Statfs_t, error) {
	if rec.Access.Mount != nil {
		return at.UseNet(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return at.Use(ctx)
}

// alive asks it whether it answers.
func (n *Node) alive(ctx context.Context, rec *record, at *mnt.Place) error {
	if rec.Access.Mount != nil {
		_, err := at.UseNet(ctx)
		return err
	}
	return at.Alive(ctx)
}
