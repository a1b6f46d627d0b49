package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/csi"
	"github.com/dozo-dev/dozo/internal/imports"
)

// importFlags are the flags of "dozo import".
type importFlags struct {
	personFlags
	node, pool, lv, name, claim, class, fsType string
	block, topolvm, dryRun                     bool
}

func importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import {--node NODE --pool POOL --lv VG/LV | --from-topolvm}",
		Short: "Make volumes of logical volumes that are there, without copying",
		Long: `Make a volume of a logical volume that Dozo did not make, as it is, and the PersistentVolume of it. It has to be
in a volume group (or the thin pool) of the pool, of the pool's layout, and not in use. It gets another name, and
is never formatted. The PersistentVolume is kept when its claim is deleted (Retain).

With --from-topolvm it does so with the volumes of TopoLVM, whose claims no pod may use meanwhile, and says what is
left to be done. A pool has to be on the volume group of TopoLVM's device class; it is the one of that name, or --pool.

All of it can be repeated.`,
		Example: `  dozo import --node n1 --pool fast --lv vg0/data --claim default/data --storage-class dozo
  dozo import --from-topolvm --claim default/data --pool fast
  dozo import --from-topolvm --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return f.run(ctx, newImporter(c), cmd.OutOrStdout())
		},
	}
	f.define(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.node, "node", "", "the node that has the logical volume")
	fl.StringVar(&f.pool, "pool", "", "the pool that it becomes a volume of")
	fl.StringVar(&f.lv, "lv", "", "the logical volume, as `VG/LV`")
	fl.StringVar(&f.name, "name", "", "of the PersistentVolume (default: import-NODE-VG-LV)")
	fl.StringVar(&f.claim, "claim", "", "the claim that may have it, as `NAMESPACE/NAME`; with --from-topolvm the one whose volume is moved (default: any, all)")
	fl.StringVar(&f.class, "storage-class", "", "of the PersistentVolume and its claim (default: none; with --from-topolvm that of the old one)")
	fl.StringVar(&f.fsType, "fs-type", "", "the file system that is on it (default: whatever is)")
	fl.BoolVar(&f.block, "block", false, "it is used as a block device")
	fl.BoolVar(&f.topolvm, "from-topolvm", false, "import the volumes of TopoLVM")
	fl.BoolVar(&f.dryRun, "dry-run", false, "change nothing, print the objects that would be made")
	return cmd
}

// newImporter makes PersistentVolumes as the driver makes them.
func newImporter(c client.Client) *imports.Importer {
	return &imports.Importer{Client: c, Attributes: func(v backend.Volume) (map[string]string, error) { return csi.VolumeContext(v, nil) }}
}

func (f *importFlags) check() error {
	if _, err := f.claimKey(); err != nil {
		return err
	}
	if f.topolvm {
		if f.lv != "" || f.node != "" || f.name != "" || f.block || f.fsType != "" {
			return errors.New("--from-topolvm: it says by itself what --lv, --node, --name, --fs-type and --block would")
		}
		return nil
	}
	for flag, value := range map[string]string{"node": f.node, "pool": f.pool, "lv": f.lv} {
		if value == "" {
			return fmt.Errorf("--%s: missing; or --from-topolvm", flag)
		}
	}
	return nil
}

func (f *importFlags) claimKey() (client.ObjectKey, error) {
	if f.claim == "" {
		return client.ObjectKey{}, nil
	}
	namespace, name, ok := strings.Cut(f.claim, "/")
	if !ok || namespace == "" || name == "" {
		return client.ObjectKey{}, fmt.Errorf("--claim: %q is not NAMESPACE/NAME", f.claim)
	}
	return client.ObjectKey{Namespace: namespace, Name: name}, nil
}

func (f *importFlags) run(ctx context.Context, i *imports.Importer, out io.Writer) error {
	claim, err := f.claimKey()
	if err != nil {
		return err
	}
	if f.topolvm {
		return f.moveAll(ctx, i, claim, out)
	}
	r := imports.Request{
		Name: f.name, Node: f.node, Pool: f.pool, From: f.lv, Claim: claim, Class: f.class, FSType: f.fsType, Block: f.block,
	}
	if r.Name == "" {
		r.Name = string(backend.IDFor("import-" + f.node + "-" + strings.ReplaceAll(strings.TrimPrefix(f.lv, "/dev/"), "/", "-")))
	}
	if f.dryRun {
		o, err := i.Plan(ctx, r)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "# the capacity is what the logical volume has, once it is imported")
		return printObjects(out, o)
	}
	o, err := i.Import(ctx, r)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s on node %s is volume %s, PersistentVolume %s, %s.\n", r.From, r.Node, o.Volume.Name, o.PersistentVolume.Name,
		backend.FormatSize(o.Volume.Status.Size.Value()))
	return nil
}

func printObjects(out io.Writer, o imports.Objects) error {
	o.Volume.SetGroupVersionKind(schema.GroupVersionKind{Group: "dozo.dev", Version: "v1alpha1", Kind: "NodeVolume"})
	for _, object := range []runtime.Object{o.Volume, o.PersistentVolume} {
		if err := printYAML(out, object); err != nil {
			return err
		}
	}
	return nil
}

// printYAML prints an object as a person would write it.
func printYAML(out io.Writer, o runtime.Object) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return err
	}
	delete(fields, "status")
	if m, ok := fields["metadata"].(map[string]any); ok {
		delete(m, "creationTimestamp")
	}
	text, err := yaml.Marshal(fields)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "---\n%s", text)
	return err
}

// moveAll does with each volume of TopoLVM what can be done, and says what is left.
func (f *importFlags) moveAll(ctx context.Context, i *imports.Importer, claim client.ObjectKey, out io.Writer) error {
	moves, err := i.Moves(ctx, claim, func(class string) string {
		if f.pool != "" {
			return f.pool
		}
		return class
	})
	if err != nil {
		return err
	}
	var failed error
	for _, m := range moves {
		if f.class != "" {
			m.Request.Class = f.class
		}
		fmt.Fprintf(out, "# claim %s: PersistentVolume %s on node %s, logical volume %s\n", m.Request.Claim, m.Old.Name, m.Request.Node, m.Request.From)
		if err := f.move(ctx, i, m, out); err != nil {
			fmt.Fprintf(out, "# not imported: %v\n\n", err)
			failed = errTold
		}
	}
	if len(moves) == 0 {
		fmt.Fprintln(out, "There are no volumes of TopoLVM.")
	}
	return failed
}

func (f *importFlags) move(ctx context.Context, i *imports.Importer, m imports.Move, out io.Writer) error {
	if f.dryRun {
		o, err := i.Plan(ctx, m.Request)
		if err != nil {
			return err
		}
		if len(m.Pods) > 0 {
			fmt.Fprintf(out, "# these pods use it, and have to end first: %s\n", strings.Join(m.Pods, ", "))
		}
		return printObjects(out, o)
	}
	o, err := i.Do(ctx, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "# done: it is volume %s, and PersistentVolume %s waits for the claim. Now run:\n", o.Volume.Name, o.PersistentVolume.Name)
	if m.Claim != nil {
		fmt.Fprintf(out, "kubectl -n %s delete pvc %s\nkubectl apply -f - <<END\n", m.Claim.Namespace, m.Claim.Name)
		if err := printYAML(out, m.NewClaim(o.PersistentVolume)); err != nil {
			return err
		}
		fmt.Fprintln(out, "END")
	}
	fmt.Fprintf(out, "# and when the pods run again; both only forget, the logical volume has another name now:\nkubectl delete pv %s\nkubectl delete %s %s\n\n",
		m.Old.Name, m.Resource, m.LogicalVolume)
	return nil
}
