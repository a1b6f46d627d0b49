package e2e

import "fmt"

// Driver is what the scenarios need to know of a CSI driver.
type Driver struct {
	Name          string // of the CSIDriver object
	StorageClass  string
	Pool          string // of inline volumes; empty: there is only one
	SnapshotClass string
	Namespace     string // where the driver's own pods are
	Pods          string // label selector of all its pods
	NodePods      string // label selector of the pods that serve CSI on nodes
	Controllers   string // and of those that make volumes, where it is not the nodes that do
	Program       string // name of the driver's process in them
	Size          string // of a first volume, a Kubernetes quantity
	Larger        string // of one that it is expanded or restored to
	FullSays      string // in the Event on a claim for which there is no room
	TopologyKey   string // of the label by which nodes that volumes are on are told apart
	FileSystems   []string
	Traces        []Trace
	Layouts       []Layout
	Thin          Thin
	Room          Room
	Storage       Storage
	Can           Can
}

// Can is what a driver is able to do. A scenario that needs more is skipped by name.
type Can struct {
	Expand, Snapshot, Clone, Block, SingleWriter bool
	FSGroup                                      bool // a pod's group owns the files: not where the server says whose they are
	Capacity                                     bool // it publishes how much room nodes have
	NodeBound                                    bool // a volume, its snapshots and clones are on one node
	Outside                                      bool // volumes are on Driver.Storage, which nodes are admitted to and shut out from
	ShutsOut                                     bool // from Outside, single nodes: not where the server knows only users
	ByAddress                                    bool // nodes are admitted to Outside by their addresses
	ManyWriters                                  bool // pods on many nodes write to a volume's files at the same time
	Inline                                       bool // a pod's spec can have a volume in it, "size" its attribute
	Limits                                       bool // VolumeAttributesClasses with read-bps and the like
	Layouts                                      bool // it has the pools of Driver.Layouts, Thin and Room
}

// Trace finds what a driver leaves on nodes for a volume. Program is run on every node with the node's root
// directory at /host; VOLUME in it stands for the name of the PersistentVolume, and MAPPED for that as the device
// mapper writes it. Each line that it prints is a
// trace; it has none if it prints nothing.
type Trace struct {
	What    string
	Program []string
}

// Layout is how the volumes of a pool lie on their storage. Program, run on a volume's node with VOLUME replaced as
// in a [Trace], prints something that Says matches.
type Layout struct {
	Pool    string
	Program []string
	Says    string // a regular expression
}

// Thin is a pool that promises volumes twice the Size that it has.
type Thin struct {
	Pool string
	Size string // a Kubernetes quantity
	Says string // in the Event on a claim for more than is left of the promise
}

// Room is what a metric of the driver's pods says of a node's room, and a program that says the same, in bytes.
type Room struct {
	Port    int
	Metric  string // with labels, as Prometheus writes it
	Program []string
}

// Storage is a machine of the lab's beside the nodes that volumes are on.
type Storage struct {
	Machine string  // what the lab calls it
	Listing string  // the lab's verb that prints what it has, a line each; those of a volume have the PersistentVolume's name
	MayStay string  // a regular expression: lines that say nothing of a volume
	Left    []Trace // on nodes, when there are no volumes at all
}

// onHost runs a program on a node with the node's own file systems.
func onHost(program ...string) []string {
	return append([]string{"nsenter", "--target", "1", "--mount", "--"}, program...)
}

// Drivers returns the drivers that the scenarios know, by the name that DOZO_E2E_DRIVER chooses.
func Drivers() map[string]Driver {
	lvs := onHost("lvs", "--noheadings", "--separator", " ", "-o", "vg_name,segtype,lv_name", "-S", "lv_name=~VOLUME")
	return map[string]Driver{"loopfile": {
		Name:          "loopfile.dozo.dev",
		StorageClass:  "dozo",
		SnapshotClass: "dozo-loopfile",
		Namespace:     "dozo",
		Pods:          "app.kubernetes.io/component in (loopfile-node, loopfile-controller)",
		NodePods:      "app.kubernetes.io/component=loopfile-node",
		Program:       "dozo",
		Size:          "512Mi",
		Larger:        "1Gi",
		FullSays:      "can still be given",
		TopologyKey:   "topology.dozo.dev/node",
		FileSystems:   []string{"ext4", "xfs", "btrfs"},
		Traces: []Trace{
			{"an image", []string{"find", "/host/var/lib/dozo/images", "-name", "*VOLUME*"}},
			{"a loop device", []string{"find", "/sys/devices/virtual/block", "-name", "backing_file", "-exec", "grep", "-H", "VOLUME", "{}", "+"}},
			{"a stage record", []string{"grep", "-rl", "--include=*.json", "VOLUME", "/host/var/lib/dozo/node"}},
			{"a mount", []string{"grep", "VOLUME", "/proc/1/mountinfo"}},
		},
		Can: Can{Expand: true, Snapshot: true, Clone: true, Block: true, SingleWriter: true, FSGroup: true, Capacity: true, NodeBound: true, Inline: true, Limits: true},
	}, "lvm": {
		Name:          "lvm.dozo.dev",
		StorageClass:  "dozo",
		Pool:          "disks",
		SnapshotClass: "dozo-lvm",
		Namespace:     "dozo",
		Pods:          "app.kubernetes.io/component in (lvm-node, lvm-controller)",
		NodePods:      "app.kubernetes.io/component=lvm-node",
		Program:       "dozo",
		Size:          "512Mi",
		Larger:        "1Gi",
		FullSays:      "can still give",
		TopologyKey:   "topology.dozo.dev/node",
		FileSystems:   []string{"ext4", "xfs", "btrfs"},
		Thin:          Thin{"thin", "2Gi", "can still promise"},
		Layouts: []Layout{
			{"disks", lvs, `^ *dozo linear `},
			{"mirror", lvs, `^ *dozo raid1 `},
			{"thin", lvs, `^ *dozo thin `},
			{"other", lvs, `^ *other linear `},
		},
		Room: Room{9100, `dozo_pool_capacity_bytes{kind="lvm",pool="other",type="available"}`,
			onHost("vgs", "--noheadings", "--nosuffix", "--units", "b", "-o", "vg_free", "other")},
		Traces: []Trace{
			{"a logical volume", []string{"find", "/sys/devices/virtual/block", "-path", "*/dm/name", "-exec", "grep", "-H", "MAPPED", "{}", "+"}},
			{"a stage record", []string{"grep", "-rl", "--include=*.json", "VOLUME", "/host/var/lib/dozo/node"}},
			{"a mount", []string{"grep", "VOLUME", "/proc/1/mountinfo"}},
		},
		Can: Can{Expand: true, Snapshot: true, Clone: true, Block: true, SingleWriter: true, FSGroup: true, Capacity: true, NodeBound: true, Inline: true, Limits: true, Layouts: true},
	}, "synology": synology(Driver{
		SnapshotClass: "dozo-synology",
		FileSystems:   []string{"ext4", "xfs", "btrfs"},
		Can:           Can{Expand: true, Snapshot: true, Clone: true, Block: true, SingleWriter: true, FSGroup: true, Outside: true, ShutsOut: true},
	}), "synology-nfs": synology(Driver{
		Can: Can{Expand: true, Clone: true, SingleWriter: true, FSGroup: true, Outside: true, ShutsOut: true, ByAddress: true, ManyWriters: true},
	}), "synology-smb": synology(Driver{
		Can: Can{Expand: true, Clone: true, SingleWriter: true, Outside: true, ManyWriters: true},
	})}
}

// synology completes a driver of LUNs or of shared folders with what both have.
func synology(d Driver) Driver {
	d.Name, d.StorageClass, d.Namespace, d.Program = "synology.dozo.dev", "dozo", "dozo", "dozo"
	d.Pods = "app.kubernetes.io/component in (synology-node, synology-controller)"
	d.NodePods = "app.kubernetes.io/component=synology-node"
	d.Controllers = "app.kubernetes.io/component=synology-controller"
	d.Size, d.Larger, d.FullSays = "512Mi", "1Gi", "of the NAS has"
	d.Traces = []Trace{
		{"a stage record", []string{"grep", "-rl", "--include=*.json", "VOLUME", "/host/var/lib/dozo/node"}},
		{"a mount", []string{"grep", "VOLUME", "/proc/1/mountinfo"}},
	}
	d.Storage = Storage{
		Machine: "nas", Listing: "nas",
		// Of a node that died, whose session the NAS had not missed yet: such a target goes when there is need of room.
		MayStay: `^target .*\.W[0-9]+: 0 LUNs$`,
		Left: []Trace{
			{"an iSCSI session", []string{"find", "/sys/class/iscsi_session", "-name", "session*"}},
			{"a record of an iSCSI target", []string{"find", "/host/etc/iscsi/nodes", "-type", "f"}},
			{"a claim on an iSCSI target", []string{"find", "/host/var/lib/dozo/node", "-name", "*.iscsi"}},
			{"an NFS mount", []string{"grep", " - nfs4 ", "/proc/1/mountinfo"}},
			{"an SMB mount", []string{"grep", " - cifs ", "/proc/1/mountinfo"}},
		},
	}
	return d
}

// driverNamed returns one of [Drivers].
func driverNamed(name string) (Driver, error) {
	d, ok := Drivers()[name]
	if !ok {
		return Driver{}, fmt.Errorf("DOZO_E2E_DRIVER: no driver %q in test/e2e/driver.go", name)
	}
	return d, nil
}
