package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/controller/pool/open"
	"github.com/dozo-dev/dozo/internal/csi"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/imports"
	"github.com/dozo-dev/dozo/internal/pool"
)

// importFlags are the flags of "dozo import".
type importFlags struct {
	personFlags
	node, pool, lv, lun, share, name, claim, class, fsType, namespace string
	block, topolvm, synology, dryRun                                  bool
}

func importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import {--node NODE --pool POOL --lv VG/LV | --pool POOL {--lun LUN | --share SHARE} | --from-topolvm | --from-synology-csi --pool POOL}",
		Short: "Make volumes of storage that is there, without copying",
		Long: `Make a volume of a logical volume, or of a LUN or a share of a NAS, that Dozo did not make, as it is, and the
PersistentVolume of it. It has to be where the pool is (a logical volume in its volume group or thin pool, and of its
layout), and not in use. It gets another name, and keeps its data: what is not blank is never formatted. The
PersistentVolume is kept when its claim is deleted (Retain).

With --from-topolvm or --from-synology-csi it does so with the volumes of TopoLVM, or of Synology's own driver, whose
claims no pod may use meanwhile, and says what is left to be done. The pool for TopoLVM's has to be on the volume group
of the device class; it is the one of that name, or --pool.

What is on a node is imported by that node. A NAS is asked by this command itself, with the pool's Secret; where it is not
reached from here, run the command in the pod of the controller:

  kubectl -n dozo exec deploy/dozo-synology-controller -- dozo import …

All of it can be repeated.`,
		Example: `  dozo import --node n1 --pool fast --lv vg0/data --claim default/data --storage-class dozo
  dozo import --pool nas --lun data --claim default/data --storage-class dozo-nas
  dozo import --from-topolvm --claim default/data --pool fast
  dozo import --from-synology-csi --pool nas --dry-run`,
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
			return f.run(ctx, f.importer(c), cmd.OutOrStdout())
		},
	}
	f.define(cmd)
	f.defineOwn(cmd.Flags())
	return cmd
}

func (f *importFlags) defineOwn(fl *pflag.FlagSet) {
	fl.StringVar(&f.node, "node", "", "the node that has the logical volume")
	fl.StringVar(&f.pool, "pool", "", "the pool that it becomes a volume of")
	fl.StringVar(&f.lv, "lv", "", "the logical volume, as `VG/LV`")
	fl.StringVar(&f.lun, "lun", "", "the LUN of a NAS, its name or UUID")
	fl.StringVar(&f.share, "share", "", "the shared folder of a NAS, its name or UUID")
	fl.StringVar(&f.name, "name", "", "of the PersistentVolume (default: import-NODE-VG-LV, import-POOL-LUN)")
	fl.StringVar(&f.claim, "claim", "", "the claim that may have it, as `NAMESPACE/NAME`; with --from-… the one whose volume is moved (default: any, all)")
	fl.StringVar(&f.class, "storage-class", "", "of the PersistentVolume and its claim (default: none; with --from-… that of the old one)")
	fl.StringVar(&f.fsType, "fs-type", "", "the file system that is on it (default: whatever is)")
	fl.BoolVar(&f.block, "block", false, "it is used as a block device")
	fl.BoolVar(&f.topolvm, "from-topolvm", false, "import the volumes of TopoLVM")
	fl.BoolVar(&f.synology, "from-synology-csi", false, "import the volumes of Synology's own driver, csi.san.synology.com")
	fl.BoolVar(&f.dryRun, "dry-run", false, "change nothing, print the objects that would be made")
	fl.StringVar(&f.namespace, "namespace", "", "where the Secret of a pool outside the cluster is (default: in a pod its own, otherwise dozo)")
}

// importer makes PersistentVolumes as the driver makes them, and opens pools as the controller does.
func (f *importFlags) importer(c client.Client) *imports.Importer {
	return &imports.Importer{
		Client:     c,
		Attributes: func(v backend.Volume) (map[string]string, error) { return csi.VolumeContext(v, nil) },
		Parameters: csi.BackendParameters,
		Open: func(ctx context.Context, p *v1alpha1.Pool) (imports.Storage, error) {
			kind, err := pool.FindKind(all.Kinds(host.New()), p.Spec.Kind)
			if err != nil {
				return nil, err
			}
			if kind.NodeBound {
				return nil, errs.E(errs.Invalid, "pool %s is on nodes: say on which (--node), and what it is there (--lv)", p.Name)
			}
			namespace, err := (&clusterFlags{namespace: f.namespace}).ownNamespace()
			if err != nil {
				namespace = "dozo"
			}
			spec, err := open.Spec(ctx, c, namespace, p)
			if err != nil {
				return nil, errs.E(errs.KindOf(err), "pool %s: %w", p.Name, err)
			}
			o, err := pool.Open(ctx, kind, spec, pool.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return nil, err
			}
			return o, nil
		},
	}
}

// check refuses flags that do not go together.
func (f *importFlags) check() error {
	if _, err := f.claimKey(); err != nil {
		return err
	}
	ways := map[string]bool{"--lv": f.lv != "", "--lun": f.lun != "", "--share": f.share != "", "--from-topolvm": f.topolvm, "--from-synology-csi": f.synology}
	maps.DeleteFunc(ways, func(_ string, given bool) bool { return !given })
	given := slices.Sorted(maps.Keys(ways))
	switch {
	case len(given) != 1:
		return fmt.Errorf("%s: exactly one is needed of --lv, --lun, --share, --from-topolvm, --from-synology-csi", cmp.Or(strings.Join(given, ", "), "--lv"))
	case (f.topolvm || f.synology) && (f.node != "" || f.name != "" || f.block || f.fsType != ""):
		return fmt.Errorf("%s: it says by itself what --node, --name, --fs-type and --block would", given[0])
	case f.lv != "" && f.node == "":
		return errors.New("--node: missing, for --lv")
	case f.lv == "" && f.node != "":
		return fmt.Errorf("--node: %s is on no node", given[0])
	case !f.topolvm && f.pool == "":
		return fmt.Errorf("--pool: missing, for %s", given[0])
	case f.share != "" && (f.block || f.fsType != ""):
		return errors.New("--share: it is a file system already, without --fs-type and --block")
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

// request is that for one volume; what it is of, for people.
func (f *importFlags) request(claim client.ObjectKey) (r imports.Request, what string) {
	r = imports.Request{
		Name: f.name, Node: f.node, Pool: f.pool, From: cmp.Or(f.lv, f.lun, f.share), Claim: claim, Class: f.class, FSType: f.fsType, Block: f.block,
	}
	where := f.pool
	switch {
	case f.lun != "":
		what, r.Parameters = "LUN "+r.From, map[string]string{"protocol": "iscsi"}
	case f.share != "":
		what, r.Share = "share "+r.From, true
	default:
		what, where = r.From+" on node "+r.Node, f.node
	}
	if r.Name == "" {
		r.Name = string(backend.IDFor("import-" + where + "-" + strings.ReplaceAll(strings.TrimPrefix(r.From, "/dev/"), "/", "-")))
	}
	return r, what
}

func (f *importFlags) run(ctx context.Context, i *imports.Importer, out io.Writer) error {
	claim, err := f.claimKey()
	if err != nil {
		return err
	}
	if f.topolvm || f.synology {
		return f.moveAll(ctx, i, claim, out)
	}
	r, what := f.request(claim)
	if f.dryRun {
		o, err := i.Plan(ctx, r)
		if err != nil {
			return err
		}
		if o.Volume != nil {
			fmt.Fprintln(out, "# the capacity is what the logical volume has, once it is imported")
		}
		return printObjects(out, o)
	}
	o, err := i.Import(ctx, r)
	if err != nil {
		return err
	}
	size := o.PersistentVolume.Spec.Capacity[corev1.ResourceStorage]
	fmt.Fprintf(out, "%s is volume %s, PersistentVolume %s, %s.\n", what, volumeOf(r), o.PersistentVolume.Name, backend.FormatSize(size.Value()))
	return nil
}

// volumeOf is how a volume is called for people: on nodes as its object is.
func volumeOf(r imports.Request) string { return r.Pool + "." + r.Name }

func printObjects(out io.Writer, o imports.Objects) error {
	if o.Volume != nil {
		o.Volume.SetGroupVersionKind(schema.GroupVersionKind{Group: "dozo.dev", Version: "v1alpha1", Kind: "NodeVolume"})
		if err := printYAML(out, o.Volume); err != nil {
			return err
		}
	}
	return printYAML(out, o.PersistentVolume)
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

// moves are the volumes of the other driver, and whose they are.
func (f *importFlags) moves(ctx context.Context, i *imports.Importer, claim client.ObjectKey) (all []imports.Move, whose string, err error) {
	if f.synology {
		all, err = i.FromSynologyCSI(ctx, claim, f.pool)
		return all, "Synology's driver", err
	}
	all, err = i.FromTopoLVM(ctx, claim, func(class string) string { return cmp.Or(f.pool, class) })
	return all, "TopoLVM", err
}

// moveAll does with each volume of another driver what can be done, and says what is left.
func (f *importFlags) moveAll(ctx context.Context, i *imports.Importer, claim client.ObjectKey, out io.Writer) error {
	moves, whose, err := f.moves(ctx, i, claim)
	if err != nil {
		return err
	}
	var failed error
	for _, m := range moves {
		m.Request.Class = cmp.Or(f.class, m.Request.Class)
		fmt.Fprintf(out, "# claim %s: PersistentVolume %s %s\n", m.Request.Claim, m.Old.Name, m.Is)
		if err := f.move(ctx, i, m, out); err != nil {
			fmt.Fprintf(out, "# not imported: %v\n\n", err)
			failed = errTold
		}
	}
	if len(moves) == 0 {
		fmt.Fprintf(out, "There are no volumes of %s.\n", whose)
	}
	return failed
}

func (f *importFlags) move(ctx context.Context, i *imports.Importer, m imports.Move, out io.Writer) error {
	if f.dryRun {
		return planMove(ctx, i, m, out)
	}
	o, err := i.Do(ctx, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "# done: it is volume %s, and PersistentVolume %s waits for the claim. Now run:\n", volumeOf(m.Request), o.PersistentVolume.Name)
	if m.Claim != nil {
		fmt.Fprintf(out, "kubectl -n %s delete pvc %s\nkubectl apply -f - <<END\n", m.Claim.Namespace, m.Claim.Name)
		if err := printYAML(out, m.NewClaim(o.PersistentVolume)); err != nil {
			return err
		}
		fmt.Fprintln(out, "END")
	}
	fmt.Fprintln(out, "# and when the pods run again; that only forgets, what has the data has another name now:")
	for _, object := range m.Forget {
		fmt.Fprintf(out, "kubectl delete %s\n", object)
	}
	fmt.Fprintln(out)
	return nil
}

// planMove says what a move would do, and what it would wait for.
func planMove(ctx context.Context, i *imports.Importer, m imports.Move, out io.Writer) error {
	if m.Refused != nil {
		return m.Refused
	}
	if len(m.Pods) > 0 {
		fmt.Fprintf(out, "# these pods use it, and have to end first: %s\n", strings.Join(m.Pods, ", "))
	}
	if len(m.Nodes) > 0 {
		fmt.Fprintf(out, "# it is attached to these nodes, which ends soon after the last pod: %s\n", strings.Join(m.Nodes, ", "))
	}
	o, err := i.Plan(ctx, m.Request)
	if err != nil {
		return err
	}
	return printObjects(out, o)
}
