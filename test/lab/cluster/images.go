package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// localRegistry is a made-up name: nothing is ever pulled, and an image that
// is missing on a node fails at once instead of being looked for elsewhere.
const localRegistry = "dozo.local/"

const pauseImage = localRegistry + "pause:1"

// labVersion tags what is the lab's own and has no upstream version.
const labVersion = "lab"

// images are what every node has from the start.
func (l *Lab) images(ctx context.Context, tools toolchain) ([]Image, error) {
	base, err := baseTree(ctx)
	if err != nil {
		return nil, err
	}
	suite, err := suiteNames(ctx, tools)
	if err != nil {
		return nil, err
	}
	images := sidecarImages(tools)
	version := func(reference string) string { return reference[strings.LastIndex(reference, ":")+1:] }
	images = append(images,
		goImage([]string{pauseImage, suite["pause"]}, tools.path("pause")),
		// One image stands for all that the suite only runs a shell in.
		Image{
			Names: []string{localRegistry + "busybox:1", suite["busybox"], suite["nginx"], suite["glibc-dns-testing"]},
			Cmd:   []string{"/bin/sh"},
			Files: base,
		},
		Image{
			Names:      []string{localRegistry + "agnhost:" + version(suite["agnhost"]), suite["agnhost"]},
			Entrypoint: []string{"/agnhost"},
			Cmd:        []string{"pause"},
			Files:      agnhostTree(base, tools),
		},
	)
	return images, nil
}

// sidecarImages hold one static program each.
func sidecarImages(tools toolchain) []Image {
	var images []Image
	for _, sidecar := range []struct{ name, module string }{
		{"csi-provisioner", csiModules + "external-provisioner/v6"},
		{"csi-attacher", csiModules + "external-attacher/v4"},
		{"csi-resizer", csiModules + "external-resizer/v2"},
		{"csi-snapshotter", csiModules + "external-snapshotter/v8"},
		{"snapshot-controller", csiModules + "external-snapshotter/v8"},
		{"csi-node-driver-registrar", ""},
		{"livenessprobe", ""},
	} {
		version := labVersion
		if sidecar.module != "" {
			version = tools.versions[sidecar.module]
		}
		name := localRegistry + sidecar.name + ":" + version
		images = append(images, goImage([]string{name}, tools.path(sidecar.name)))
	}
	return images
}

// goImage holds nothing but a static program.
func goImage(names []string, program string) Image {
	tree := NewFileTree()
	name := "/" + baseName(program)
	tree.File(name, program, 0o755)
	return Image{Names: names, Entrypoint: []string{name}, Files: tree}
}

func baseName(file string) string { return file[strings.LastIndex(file, "/")+1:] }

// suiteNames asks the Kubernetes release that was built for the references of
// the images that its storage suite uses.
func suiteNames(ctx context.Context, tools toolchain) (map[string]string, error) {
	out, err := command{args: []string{tools.path("e2e-images")}, timeout: time.Minute}.run(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, reference, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			names[name] = reference
		}
	}
	for _, name := range []string{"agnhost", "busybox", "nginx", "glibc-dns-testing", "pause"} {
		if names[name] == "" {
			return nil, fmt.Errorf("e2e-images printed no %s", name)
		}
	}
	return names, nil
}

// baseTree is a small Debian: busybox for everything, with the real programs
// in front where tests depend on their options. The shell is bash: the suite
// uses "let", and busybox's shell would run its own dd instead of GNU's.
func baseTree(ctx context.Context) (*FileTree, error) {
	tree := NewFileTree()
	if err := addBusybox(ctx, tree); err != nil {
		return nil, err
	}
	for _, name := range requiredPrograms() {
		if err := tree.Program(name); err != nil {
			return nil, err
		}
		delete(tree.entries, "bin/"+name)
	}
	for _, name := range optionalPrograms() {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		if err := tree.Program(name); err != nil {
			return nil, err
		}
		delete(tree.entries, "bin/"+name)
	}
	tree.Link("bin/sh", "/usr/bin/bash")
	tree.Link("bin/bash", "/usr/bin/bash")
	tree.Dir("mnt", 0o755)
	tree.Dir("uploads", 0o755)
	tree.Data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
	tree.Data("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
	tree.Data("etc/nsswitch.conf", "hosts: files dns\n", 0o644)
	return tree, nil
}

func requiredPrograms() []string {
	return strings.Fields(`bash dd stat sha256sum md5sum cat ls cp mv rm mkdir rmdir ln chmod
		chown chgrp touch truncate sync head tail tr cut sort uniq wc tee date sleep id env
		timeout df du od mktemp readlink realpath base64 seq true false test printf echo grep
		sed find xargs mount umount findmnt nsenter losetup blockdev lsblk blkid fallocate
		flock setpriv unshare mountpoint ps ip mkfs.ext4 fsck.ext4 resize2fs mkfs.xfs
		xfs_growfs xfs_io`)
}

func optionalPrograms() []string {
	return strings.Fields(`getfattr setfattr fio mkfs.btrfs ss`)
}

// addBusybox adds the static busybox with a link per applet.
func addBusybox(ctx context.Context, tree *FileTree) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	out, err := command{args: []string{busybox, "--list"}, timeout: time.Minute}.run(ctx)
	if err != nil {
		return err
	}
	tree.File("bin/busybox", busybox, 0o755)
	for applet := range strings.FieldsSeq(string(out)) {
		if applet != "busybox" {
			tree.Link("bin/"+applet, "/bin/busybox")
		}
	}
	return nil
}

// agnhostTree adds the suite's multi-purpose test program, the second name
// that it calls it by, and the user and groups that it expects in its image.
func agnhostTree(base *FileTree, tools toolchain) *FileTree {
	tree := base.Clone()
	tree.File("agnhost", tools.path("agnhost"), 0o755)
	tree.Link("agnhost-2", "agnhost")
	tree.Data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"+
		"user-defined-in-image:x:1000:1000::/home:/bin/sh\n", 0o644)
	tree.Data("etc/group", "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\n"+
		"group-defined-in-image:x:50000:user-defined-in-image\n", 0o644)
	return tree
}
