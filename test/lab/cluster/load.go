package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LoadArchive imports an OCI or docker archive on every node.
func (l *Lab) LoadArchive(ctx context.Context, archive string) error {
	s, err := readSpec(l.Run())
	if err != nil {
		return fmt.Errorf("lab %q is not up: %w", l.Name, err)
	}
	for _, n := range s.Nodes {
		proc, err := l.procDir(n.Name)
		if err != nil {
			return err
		}
		// The node's socket is reached through its root directory; the import
		// itself happens in the node's containerd.
		socket := filepath.Join(proc, "root", containerdSocket)
		if _, err := ctrImport(ctx, socket, archive); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
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
}

// Image assembles what was asked for.
func (r ImageRequest) Image(ctx context.Context) (Image, error) {
	if !strings.Contains(r.Name, ":") {
		return Image{}, fmt.Errorf("image name %q has no tag: a node would try to pull it; use %sNAME:TAG", r.Name, localRegistry)
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

// Images lists the references in the nodes' image stores.
func (l *Lab) Images(ctx context.Context) ([]string, error) {
	s, err := readSpec(l.Run())
	if err != nil {
		return nil, fmt.Errorf("lab %q is not up: %w", l.Name, err)
	}
	proc, err := l.procDir(s.Nodes[0].Name)
	if err != nil {
		return nil, err
	}
	out, err := command{
		args:    []string{"ctr", "--address", filepath.Join(proc, "root", containerdSocket), "-n", "k8s.io", "images", "list", "-q"},
		timeout: time.Minute,
	}.run(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(name, "sha256:") {
			names = append(names, name)
		}
	}
	return names, nil
}

// ctrImport imports an archive into the namespace that the kubelet uses.
func ctrImport(ctx context.Context, socket, archive string) ([]byte, error) {
	return command{
		args:    []string{"ctr", "--address", socket, "-n", "k8s.io", "images", "import", archive},
		timeout: 5 * time.Minute,
	}.run(ctx)
}
