package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/test/bench/report"
	"github.com/dozo-dev/dozo/test/lab"
)

const (
	mib   = 1 << 20
	group = "vg"
	// pools on that volume group
	plain  = "main"   // deletes without overwriting
	zeroed = "zeroed" // overwrites first

	each20  = 20  // operations of a kind
	atOnce  = 100 // volumes that are created at once
	bursts  = 3
	idleFor = 90 * time.Second
)

// TestLVM measures volumes of LVM in a guest on their way from CSI to the storage and back: single ones beside 0,
// 100 and 1,000 others, a hundred at once beside a hundred bare lvcreates, and a node that has nothing to do.
func TestLVM(t *testing.T) {
	needFull(t)
	n := lab.Network(t, lab.Guest{
		Name: nodeName, MemoryMiB: 1024, Disks: []lab.Disk{{Size: 8 << 30}}, Modules: []string{"dm-mod"}, Programs: []string{"lvm"},
	})
	if n.Self() != lab.Host {
		obey(t, n)
		return
	}
	c := newCluster(t, n)
	c.order("begin")
	c.pool(plain, "none")
	c.pool(zeroed, "zero")

	const where = "guest and host"
	beyond := map[string][]float64{}
	for _, others := range []int{0, 100, 1000} {
		c.others(others)
		all := c.operations(others)
		for _, op := range []string{creating, expanding, deleting, deletingZeroed} {
			m := all[op]
			name := fmt.Sprintf("LVM: %s beside %d LVs", op, others)
			most := 1.0
			if op == deletingZeroed {
				most = 2
			}
			keep(t, report.New(name+", LVM's commands", where, "commands", report.AtMost(most), m.commands),
				report.New(name+", whole", where, "ms", nil, m.whole), report.New(name+", beyond LVM's command", where, "ms", nil, m.beyond))
			if others == 0 {
				beyond[op] = m.beyond
			}
			if others == 1000 {
				ratio := report.New("", "", "", nil, m.beyond).Median / report.New("", "", "", nil, beyond[op]).Median
				keep(t, report.New("LVM: "+op+", beyond LVM's command, beside 1000 LVs to beside none", where, "times", report.AtMost(1.5), []float64{ratio}))
			}
		}
		if others == 0 {
			c.bursts(where)
		}
	}
	c.idle(where)
	c.order("end")
	n.Wait()
}

// obey is the guest's part: it does what the host orders.
func obey(t *testing.T, n *lab.Net) {
	for step := 1; ; step++ {
		order := n.Get(fmt.Sprint("order.", step), patience)
		verb, number, _ := strings.Cut(order, " ")
		count, _ := strconv.Atoi(number)
		began := time.Now()
		switch verb {
		case "begin":
			lab.Output(t, "vgcreate", "--physicalextentsize", "1m", "--metadatasize", "64m", group, lab.DiskPath(0))
			start(t, n, exec.Command(filepath.Join(n.Dir(), program), "node", "--kind", "lvm", "--node-name", nodeName,
				"--endpoint", "unix:///run/csi.sock", "--kubeconfig", filepath.Join(n.Dir(), config), "--metrics-address", ":"+metricsPort))
		case "fill":
			lab.FillGroup(t, group, count, 4, func(i int) string { return fmt.Sprintf("dozo=volume/%s/%s", plain, otherID(i)) })
			lab.Output(t, "vgchange", "--activate", "y", group) // as they are where they were made, so that nobody has to do it later
		case "bare":
			for i := range count {
				lab.Output(t, "lvcreate", "--yes", "--size", "4m", "--name", fmt.Sprint("bare", i), group)
			}
		case "remove": // all that there is
			lab.Output(t, "lvremove", "--yes", group)
		}
		n.Put(fmt.Sprint("answer.", step), fmt.Sprint(time.Since(began).Seconds()))
		if verb == "end" {
			return
		}
	}
}

// pool makes a Pool and waits until the node has it.
func (c *cluster) pool(name, wipe string) {
	c.t.Helper()
	c.must(c.Client.Create(c.t.Context(), &v1alpha1.Pool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PoolSpec{Kind: "lvm", Options: map[string]string{"volumeGroup": group, "wipe": wipe}},
	}))
	c.until("pool "+name+" is ready", func() bool {
		var ns v1alpha1.NodeStorage
		if c.Client.Get(c.t.Context(), client.ObjectKey{Name: nodeName}, &ns) != nil {
			return false
		}
		for _, p := range ns.Status.Pools {
			if p.Name == name && len(p.Conditions) > 0 && p.Conditions[0].Status == metav1.ConditionTrue {
				return true
			}
		}
		return false
	})
}

func (c *cluster) until(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func otherID(i int) backend.ID {
	return backend.ID(fmt.Sprintf("pvc-2f6a4f6e-8c0e-4c5e-9d2f-%012d", i))
}

// others makes volumes that are there besides, with their objects.
func (c *cluster) others(number int) {
	c.t.Helper()
	c.order("fill %d", number)
	ctx := c.t.Context()
	for i := range number {
		id := otherID(i)
		err := c.Client.Create(ctx, record.NewVolume(plain, nodeName, backend.Request{ID: id, Name: string(id), Size: 4 * mib}))
		if client.IgnoreAlreadyExists(err) != nil {
			c.t.Fatal(err)
		}
	}
	c.until(fmt.Sprint(number, " volumes are known"), func() bool {
		var all v1alpha1.NodeVolumeList
		c.must(c.Client.List(ctx, &all))
		known := 0
		for _, v := range all.Items {
			if v.Status.ID != "" {
				known++
			}
		}
		return known == number
	})
}

// The operations that are measured.
const (
	creating       = "create"
	expanding      = "expand"
	deleting       = "delete"
	deletingZeroed = "delete, zeroing"
)

// measured is what operations of a kind took, in milliseconds, and LVM's commands in them.
type measured struct{ whole, beyond, commands []float64 }

func (c *cluster) operations(others int) map[string]*measured {
	c.t.Helper()
	all := map[string]*measured{creating: {}, expanding: {}, deleting: {}, deletingZeroed: {}}
	for i := range each20 {
		name := fmt.Sprintf("v-%d-%d", others, i)
		c.measure(all[creating], func(ctx context.Context) error { return c.create(ctx, plain, name) })
		c.measure(all[expanding], func(ctx context.Context) error {
			_, err := c.csi.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
				VolumeId: plain + ":" + name, CapacityRange: &csi.CapacityRange{RequiredBytes: 8 * mib}, VolumeCapability: capability(),
			})
			return err
		})
		c.measure(all[deleting], func(ctx context.Context) error { return c.delete(ctx, plain, name) })
		if i%4 == 0 {
			c.must(c.create(c.t.Context(), zeroed, name))
			c.measure(all[deletingZeroed], func(ctx context.Context) error { return c.delete(ctx, zeroed, name) })
		}
	}
	return all
}

// measure does one operation.
func (c *cluster) measure(m *measured, do func(context.Context) error) {
	c.t.Helper()
	before, began := c.used(), time.Now()
	if err := do(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	took := time.Since(began)
	u := c.used().since(before)
	m.whole = append(m.whole, ms(took))
	m.beyond = append(m.beyond, ms(took-u.inThem))
	m.commands = append(m.commands, u.commands)
}

func capability() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

func (c *cluster) create(ctx context.Context, pool, name string) error {
	here := []*csi.Topology{{Segments: map[string]string{"topology.dozo.dev/node": nodeName}}}
	return again(func() error {
		_, err := c.csi.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: 4 * mib}, VolumeCapabilities: []*csi.VolumeCapability{capability()},
			Parameters: map[string]string{"pool": pool}, AccessibilityRequirements: &csi.TopologyRequirement{Requisite: here, Preferred: here},
		})
		return err
	})
}

func (c *cluster) delete(ctx context.Context, pool, name string) error {
	return again(func() error {
		_, err := c.csi.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: pool + ":" + name})
		return err
	})
}

// again calls as a sidecar does while the answer is that it goes on.
func again(call func() error) error {
	for {
		if err := call(); status.Code(err) != codes.Aborted {
			return err
		}
	}
}

// bursts creates many volumes at once, and as many LVs one after another with nothing of ours.
func (c *cluster) bursts(where string) {
	c.t.Helper()
	var bare, ours, ratios []float64
	for b := range bursts {
		alone, err := strconv.ParseFloat(c.order("bare %d", atOnce), 64)
		c.must(err)
		c.order("remove")
		names := make([]string, atOnce)
		for i := range names {
			names[i] = fmt.Sprintf("burst-%d-%d", b, i)
		}
		began := time.Now()
		c.all(names, func(name string) error { return c.create(c.t.Context(), plain, name) })
		together := time.Since(began).Seconds()
		c.all(names, func(name string) error { return c.delete(c.t.Context(), plain, name) })
		bare, ours, ratios = append(bare, alone), append(ours, together), append(ratios, together/alone)
	}
	keep(c.t,
		report.New(fmt.Sprintf("LVM: %d bare lvcreates, one after another", atOnce), "guest", "s", nil, bare),
		report.New(fmt.Sprintf("LVM: %d CreateVolume at once", atOnce), where, "s", nil, ours),
		report.New(fmt.Sprintf("LVM: %d CreateVolume at once to as many bare lvcreates", atOnce), where, "times", report.AtMost(1.5), ratios))
}

func (c *cluster) all(names []string, do func(string) error) {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			if err := do(name); err != nil {
				c.t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
}

// idle looks at a node with all its volumes that nobody asks for anything.
func (c *cluster) idle(where string) {
	c.t.Helper()
	time.Sleep(5 * time.Second) // what the last operation left behind
	const look = 5 * time.Second
	before := c.used()
	var memory []float64
	for range int(idleFor / look) {
		time.Sleep(look)
		memory = append(memory, c.used().memory)
	}
	commands := c.used().since(before).commands / idleFor.Minutes()
	keep(c.t,
		report.New("LVM: idle node with 1000 volumes, LVM's commands a minute", where, "commands", report.AtMost(4), []float64{commands}),
		report.New("LVM: idle node with 1000 volumes, resident memory", where, "MiB", report.AtMost(60), memory))
}
