package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Image is a container image to assemble from files of this machine: no
// registry is at hand to pull one from, and no docker to build one with.
type Image struct {
	// Names are the references that pods use, "dozo.local/pause:1" say.
	Names      []string
	Entrypoint []string
	Cmd        []string
	Env        []string
	Files      *FileTree
	Layer      []byte // a tar archive instead of Files
}

const (
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	configType   = "application/vnd.oci.image.config.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
)

// descriptor points at a blob of an OCI image layout.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// WriteArchive writes images as one OCI image layout in a tar file, which
// "ctr images import" reads. Every image has one layer. The same files give
// the same bytes.
func WriteArchive(file string, images []Image) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	w := &archiveWriter{tar: tar.NewWriter(out), written: map[string]bool{}}
	err = w.writeAll(images)
	return errors.Join(err, w.tar.Close(), out.Close())
}

type archiveWriter struct {
	tar     *tar.Writer
	written map[string]bool
}

func (w *archiveWriter) writeAll(images []Image) error {
	if err := w.member("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		Manifests     []descriptor `json:"manifests"`
	}{SchemaVersion: 2}
	for _, image := range images {
		manifest, err := w.image(image)
		if err != nil {
			return fmt.Errorf("image %s: %w", strings.Join(image.Names, ", "), err)
		}
		for _, name := range image.Names {
			manifest.Annotations = map[string]string{
				"io.containerd.image.name":          name,
				"org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:],
			}
			index.Manifests = append(index.Manifests, manifest)
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return w.member("index.json", data)
}

// image writes one image's layer, configuration and manifest.
func (w *archiveWriter) image(image Image) (descriptor, error) {
	layer := image.Layer
	if layer == nil {
		var err error
		if layer, err = image.Files.layer(); err != nil {
			return descriptor{}, err
		}
	}
	layerDescriptor, err := w.blob(layerType, layer)
	if err != nil {
		return descriptor{}, err
	}
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, image.Env...)
	config, err := w.jsonBlob(configType, map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": image.Entrypoint, "Cmd": image.Cmd, "WorkingDir": "/", "Env": env},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layerDescriptor.Digest}},
	})
	if err != nil {
		return descriptor{}, err
	}
	return w.jsonBlob(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": config, "layers": []descriptor{layerDescriptor},
	})
}

func (w *archiveWriter) jsonBlob(mediaType string, value any) (descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	return w.blob(mediaType, data)
}

func (w *archiveWriter) blob(mediaType string, data []byte) (descriptor, error) {
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: int64(len(data))}
	if w.written[digest] {
		return d, nil
	}
	w.written[digest] = true
	return d, w.member("blobs/sha256/"+digest, data)
}

func (w *archiveWriter) member(name string, data []byte) error {
	if err := w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.tar.Write(data)
	return err
}

// FileTree is the content of an image: paths without a leading slash.
type FileTree struct {
	entries map[string]fileEntry
}

type fileEntry struct {
	source string // a file on this machine
	data   []byte
	link   string
	mode   int64
	dir    bool
}

// NewFileTree has the directories that programs expect.
func NewFileTree() *FileTree {
	t := &FileTree{entries: map[string]fileEntry{}}
	for _, dir := range []string{"dev", "etc", "proc", "root", "run", "sys", "var"} {
		t.Dir(dir, 0o755)
	}
	t.Dir("tmp", 0o1777)
	t.Dir("var/tmp", 0o1777)
	return t
}

// Dir adds a directory.
func (t *FileTree) Dir(name string, mode int64) {
	t.add(name, fileEntry{dir: true, mode: mode})
}

// File adds a copy of a file of this machine. It is read when the image is
// written.
func (t *FileTree) File(name, source string, mode int64) {
	t.add(name, fileEntry{source: source, mode: mode})
}

// Data adds a file with this content.
func (t *FileTree) Data(name, content string, mode int64) {
	t.add(name, fileEntry{data: []byte(content), mode: mode})
}

// Link adds a symbolic link.
func (t *FileTree) Link(name, target string) {
	t.add(name, fileEntry{link: target, mode: 0o777})
}

// Has says whether the tree has something of that name.
func (t *FileTree) Has(name string) bool {
	_, ok := t.entries[cleanName(name)]
	return ok
}

// Clone copies the tree, for an image that adds to another one.
func (t *FileTree) Clone() *FileTree {
	clone := &FileTree{entries: make(map[string]fileEntry, len(t.entries))}
	for name, entry := range t.entries {
		clone.entries[name] = entry
	}
	return clone
}

// add also adds the parents: an archive without them gets unpacked with
// directories that only root may enter.
func (t *FileTree) add(name string, entry fileEntry) {
	name = cleanName(name)
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if _, ok := t.entries[parent]; !ok {
			t.entries[parent] = fileEntry{dir: true, mode: 0o755}
		}
	}
	t.entries[name] = entry
}

func cleanName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
}

// layer is the tree as a tar stream in memory, in the order of names.
func (t *FileTree) layer() ([]byte, error) {
	names := make([]string, 0, len(t.entries))
	for name := range t.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		if err := writeEntry(w, name, t.entries[name]); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

func writeEntry(w *tar.Writer, name string, entry fileEntry) error {
	header := &tar.Header{Name: name, Mode: entry.mode}
	switch {
	case entry.dir:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return w.WriteHeader(header)
	case entry.link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, entry.link
		return w.WriteHeader(header)
	}
	data := entry.data
	if entry.source != "" {
		var err error
		if data, err = os.ReadFile(entry.source); err != nil {
			return err
		}
	}
	header.Typeflag, header.Size = tar.TypeReg, int64(len(data))
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(data))
	return err
}
