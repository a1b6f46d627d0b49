package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/wire"
)

// lvmdFlags are the flags of 'dozo lvmd'.
type lvmdFlags struct {
	poolConfig, socket, nodeName, logFormat string
	uid                                     int
}

func lvmdCommand() *cobra.Command {
	var f lvmdFlags
	cmd := &cobra.Command{
		Use:   "lvmd --pool-config FILE",
		Short: "Open pools on the host and serve them to 'dozo node' in a container",
		Long: `Open the pools of a file and serve them on a unix socket, for hosts where storage has to be
managed on the host itself and not out of a container. Whoever uses them has the same names in its
own pool configuration, with the socket in the place of the options:

  pools:
  - name: fast
    kind: lvm
    socket: /run/dozo/lvmd/lvmd.sock

Only root may connect, and the user of --uid. The name is what such a daemon is called in the field:
any kind of pool can be served.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lvmd(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.poolConfig, "pool-config", "", "YAML `file` with the pools, of any kinds (required)")
	fl.StringVar(&f.socket, "socket", "/run/dozo/lvmd/lvmd.sock", "`path` of the socket; its directory must be for it alone, mode 0700, and is made if it is missing")
	fl.StringVar(&f.nodeName, "node-name", "", "name of this node in Kubernetes (default: the host's name)")
	fl.IntVar(&f.uid, "uid", 0, "the `user` beside root that may connect; the socket is theirs")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	if err := cmd.MarkFlagRequired("pool-config"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func lvmd(ctx context.Context, f lvmdFlags) error {
	log, err := logger(f.logFormat)
	if err != nil {
		return err
	}
	c, err := parsePoolConfig(f.poolConfig)
	if err != nil {
		return err
	}
	node, err := nodeName(f.nodeName)
	if err != nil {
		return err
	}
	pools, err := openServed(ctx, c.Pools, pool.Options{Node: node, Log: log})
	defer closeServed(pools, log)
	if err != nil {
		return err
	}
	s, err := wire.NewServer(wire.Options{
		Version: version(), Node: node, Config: f.poolConfig, UID: f.uid, Log: log,
		Ready: func() { notify(log, "READY=1") },
	}, pools...)
	if err != nil {
		return err
	}
	stopping := context.AfterFunc(ctx, func() { notify(log, "STOPPING=1") })
	defer stopping()
	return s.Serve(ctx, f.socket)
}

// openServed opens the pools, and returns those that it opened also with an error.
func openServed(ctx context.Context, specs []pool.Spec, o pool.Options) (opened []wire.Served, err error) {
	if len(specs) == 0 {
		return nil, errors.New("--pool-config: pools: there are none")
	}
	kinds := all.Kinds(host.New())
	for _, s := range specs {
		if s.Socket != "" {
			return opened, fmt.Errorf("--pool-config: pool %q: socket: it is this process that serves one; give the pool its options", s.Name)
		}
		k, err := pool.FindKind(kinds, s.Kind)
		if err != nil {
			return opened, fmt.Errorf("--pool-config: pool %q: %w", s.Name, err)
		}
		b, err := pool.OpenBackend(ctx, k, s, o)
		if err != nil {
			return opened, fmt.Errorf("--pool-config: %w", err)
		}
		opened = append(opened, wire.Served{Name: s.Name, Kind: k, Backend: b})
	}
	return opened, nil
}

func closeServed(pools []wire.Served, log *slog.Logger) {
	for _, p := range pools {
		if err := p.Backend.Close(); err != nil {
			log.Warn("close", "pool", p.Name, "error", err)
		}
	}
}

// nodeName is the node that a process is on: as told, or the host's name.
func nodeName(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("--node-name: %w", err)
	}
	return name, nil
}
