package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/test/lab/agent"
	"github.com/dozo-dev/dozo/test/lab/uml"
)

// LoadArchive imports an OCI or docker archive on every node.
func (l *Lab) LoadArchive(ctx context.Context, archive string) error {
	s, err := l.spec()
	if err != nil {
		return err
	}
	name := "-"
	if s.Guest != nil {
		// Ten times faster than through the network. The lab's directory is one that guests see.
		copied := filepath.Join(l.Run(), "load.tar")
		if err := copyFile(archive, copied, 0o600); err != nil {
			return err
		}
		defer os.Remove(copied)
		name = hostRoot + copied
	}
	errs := make([]error, len(s.Nodes))
	var all sync.WaitGroup
	for i, n := range s.Nodes {
		all.Go(func() { errs[i] = l.loadOn(ctx, n, archive, name) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// loadOn imports an archive on a node. There it has the given name, "-" for
// standard input.
func (l *Lab) loadOn(ctx context.Context, n nodeSpec, archive, name string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	streams := agent.Streams{}
	if name == "-" {
		streams.In = file
	}
	var said bytes.Buffer
	streams.Err = &said
	if err := l.Exec(ctx, n.Name, ctrImportArgs(name), streams); err != nil {
		return fmt.Errorf("node %s: %w: %s", n.Name, err, lastLines(said.String(), 5))
	}
	return nil
}

// LoadImage assembles an image and imports it on every node.
func (l *Lab) LoadImage(ctx context.Context, image Image) error {
	file, err := os.CreateTemp(l.Cache, "image-*.tar")
	if err != nil {
		return err
	}
	file.Close()
	defer os.Remove(file.Name())
	if err := WriteArchive(file.Name(), []Image{image}); err != nil {
		return err
	}
	return l.LoadArchive(ctx, file.Name())
}

// ImageRequest is an image as a user asks for it on the command line.
type ImageRequest struct {
	Name     string
	Shell    bool     // with a shell and the usual tools
	Programs []string // programs of this machine, with their libraries
	Files    []string // FILE:/PATH; the first one is the entrypoint
	Packages []string // Debian's, with what they need, and nothing else of the above
}

// Image assembles what was asked for.
func (r ImageRequest) Image(ctx context.Context) (Image, error) {
	if !strings.Contains(r.Name, ":") {
		return Image{}, fmt.Errorf("image name %q has no tag: a node would try to pull it; use %sNAME:TAG", r.Name, localRegistry)
	}
	if len(r.Packages) > 0 {
		return r.ofPackages(ctx)
	}
	tree := NewFileTree()
	if r.Shell {
		var err error
		if tree, err = baseTree(ctx); err != nil {
			return Image{}, err
		}
	}
	for _, name := range r.Programs {
		if err := tree.Program(name); err != nil {
			return Image{}, err
		}
	}
	image := Image{Names: []string{r.Name}, Files: tree}
	for _, file := range r.Files {
		source, target, ok := strings.Cut(file, ":")
		if !ok || !filepath.IsAbs(target) {
			return Image{}, fmt.Errorf("%q: write FILE:/PATH/IN/THE/IMAGE", file)
		}
		info, err := os.Stat(source)
		if err != nil {
			return Image{}, err
		}
		tree.File(target, source, int64(info.Mode().Perm()))
		if image.Entrypoint == nil {
			image.Entrypoint = []string{target}
		}
	}
	if image.Entrypoint == nil && !r.Shell {
		return Image{}, errors.New("an image needs a file or a shell")
	}
	return image, nil
}

// ofPackages assembles an image as Debian itself would be installed. A program that compiles for a database
// while it runs is left out: it is half of the image.
func (r ImageRequest) ofPackages(ctx context.Context) (Image, error) {
	if r.Shell || len(r.Programs)+len(r.Files) > 0 {
		return Image{}, errors.New("an image of packages has no other files: they have all that they need")
	}
	suite, err := uml.HostSuite()
	if err != nil {
		return Image{}, err
	}
	dir, err := os.MkdirTemp("", "lab-image-")
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "layer.tar")
	if err := uml.Debian(ctx, suite, r.Packages, file, "--dpkgopt=path-exclude=*/libLLVM*"); err != nil {
		return Image{}, err
	}
	layer, err := os.ReadFile(file)
	return Image{Names: []string{r.Name}, Cmd: []string{"/bin/sh"}, Layer: layer}, err
}

// Images lists the references in the nodes' image stores.
func (l *Lab) Images(ctx context.Context) ([]string, error) {
	s, err := l.spec()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var out, said bytes.Buffer
	err = l.Exec(ctx, s.Nodes[0].Name, []string{"ctr", "--namespace", imageNamespace, "images", "list", "--quiet"},
		agent.Streams{Out: &out, Err: &said})
	if err != nil {
		return nil, fmt.Errorf("node %s: list images: %w: %s", s.Nodes[0].Name, err, lastLines(said.String(), 5))
	}
	var names []string
	for name := range strings.FieldsSeq(out.String()) {
		if !strings.HasPrefix(name, "sha256:") {
			names = append(names, name)
		}
	}
	return names, nil
}

// imageNamespace is the one that the kubelet uses.
const (
	imageNamespace = "k8s.io"
	importTimeout  = 5 * time.Minute
)

// ctrImportArgs imports an archive, "-" for standard input, beside containerd.
func ctrImportArgs(archive string) []string {
	return []string{"ctr", "--namespace", imageNamespace, "images", "import", archive}
}
