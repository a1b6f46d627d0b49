package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/controller"
	"github.com/dozo-dev/dozo/internal/orphans"
)

// personFlags are the flags of commands that people run against a cluster.
type personFlags struct {
	kubeconfig string
	timeout    time.Duration
}

func (f *personFlags) define(cmd *cobra.Command) {
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` with how to reach the API server (default: as kubectl, $KUBECONFIG or ~/.kube/config; in a pod its service account)")
	fl.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait for a node or a NAS")
}

// client reads and writes a cluster's objects as the person who runs the command.
func (f *personFlags) client() (client.Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.UserAgent = "dozo/" + version()
	log.SetLogger(logr.Discard()) // a person is told by what is printed
	scheme, err := controller.Scheme()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

func orphansCommand() *cobra.Command {
	var f personFlags
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "List volumes that lost their other half, and adopt or delete them",
		Long: `List what has lost its counterpart in a cluster, both ways: volumes and snapshots on the storage of nodes,
or in objects, that nothing refers to; and objects and PersistentVolumes whose storage is gone.

Nothing of it is ever deleted by itself. 'dozo orphans delete' deletes one, through its node, and never one
that a PersistentVolume refers to; 'dozo orphans adopt' makes the object of what is on a node's storage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			return listOrphans(cmd.Context(), c, cmd.OutOrStdout(), time.Now())
		},
	}
	f.define(cmd)
	cmd.AddCommand(orphansDeleteCommand(&f), orphansAdoptCommand(&f))
	return cmd
}

func listOrphans(ctx context.Context, c client.Client, out io.Writer, now time.Time) error {
	all, err := orphans.Find(ctx, c, now)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "There are none.")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE/POOL/ID\tSIZE\tSINCE\tWHY")
	for _, o := range all {
		size := "?"
		if o.Size > 0 {
			size = backend.FormatSize(o.Size)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", o.Name(), size, duration.HumanDuration(now.Sub(o.Since)), o.Why)
	}
	return table.Flush()
}

func orphansDeleteCommand(f *personFlags) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NODE/POOL/ID",
		Short: "Delete an orphan and its data",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			ask := func(o orphans.Orphan) error { return nil }
			if !yes {
				ask = func(o orphans.Orphan) error { return confirm(cmd.InOrStdin(), cmd.OutOrStdout(), o) }
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			if err := deleteOrphan(ctx, c, args[0], ask); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is deleted.\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func deleteOrphan(ctx context.Context, c client.Client, name string, ask func(orphans.Orphan) error) error {
	o, err := orphans.Pick(ctx, c, name, time.Now())
	if err != nil {
		return err
	}
	if o.Claimed == "" {
		if err := ask(o); err != nil {
			return err
		}
		if o, err = orphans.Pick(ctx, c, name, time.Now()); err != nil { // thinking takes time
			return err
		}
	}
	return orphans.Delete(ctx, c, o)
}

var errNotConfirmed = errors.New("nothing is deleted: the answer was not yes")

func confirm(in io.Reader, out io.Writer, o orphans.Orphan) error {
	fmt.Fprintf(out, "%s (%s; %s)\nIts data cannot be brought back. Type yes to delete it: ", o.Name(), cmp.Or(backend.FormatSize(o.Size), "?"), o.Why)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errNotConfirmed
	}
	return nil
}

func orphansAdoptCommand(f *personFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "adopt NODE/POOL/ID",
		Short: "Make the object of what is on a node's storage",
		Long: `Make the NodeVolume or NodeSnapshot of what is on a node's storage and has none, as after its object was deleted while
the node was away. A PersistentVolume of it that is still there works again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			o, err := orphans.Pick(ctx, c, args[0], time.Now())
			if err == nil {
				err = orphans.Adopt(ctx, c, o)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is adopted.\n", args[0])
			return nil
		},
	}
}
