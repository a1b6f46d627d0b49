// Command dozo is Kubernetes storage for people who run their own machines. Its roles are subcommands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, errTold) {
		fmt.Fprintln(os.Stderr, "dozo:", err)
	}
	os.Exit(1)
}

// errTold is a failure whose reason was printed already.
var errTold = errors.New("failed")

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dozo",
		Short: "Storage for people who run their own machines",
		Long: `Dozo makes volumes out of the storage you have and serves them over CSI, to Kubernetes and others.

See it work on this machine, as root:

  dozo demo

Serve a directory of image files as volumes:

  mkdir -p /var/lib/dozo/images
  cat > pools.yaml <<END
  pools:
  - name: images
    kind: loopfile
    options:
      path: /var/lib/dozo/images
  END
  dozo serve --pool-config pools.yaml`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(demoCommand(), serveCommand(), controllerCommand(), nodeCommand(), lvmdCommand(), schedulerCommand(), webhookCommand(), kindsCommand(), orphansCommand(), importCommand(), synologyCommand())
	return cmd
}

// version is the module's version as built, with the commit if it is not a release.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
