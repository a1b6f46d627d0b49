// Lab starts, stops and uses the test cluster; see test/lab/cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/dozo-dev/dozo/test/lab/cluster"
)

const usage = `usage: lab VERB
  up [--nodes N] [--keep] [--install]
                             build what is missing and start the cluster;
                             --install: and install Dozo
  install [--values FILE]... build Dozo, install its chart with helm or bring it
                             up to date, and run a pod with a volume
  down                       end it; nothing stays but the cache
  status                     nodes, and components that have ended
  build [--suite]            only build; --suite: the storage suite as well
  kubectl ARG...             kubectl as the administrator
  env                        shell lines: eval "$(lab env)"
  exec [--node NAME] -- PROGRAM [ARG...]
                             run inside a node, or beside the control plane
  images                     references of the images that nodes start with
  load-image ARCHIVE...      import OCI or docker archives on every node
  load-image --name REF [--shell] [--program NAME]... [FILE:/PATH]...
                             assemble an image from files and this machine's
                             programs and import it on every node; the first
                             file is the entrypoint
  e2e --driver FILE [--focus RE] [--skip RE] [--procs N] [--out DIR]
                             the upstream storage suite for a CSI driver
`

func main() {
	if isStage, err := cluster.RunStage(os.Args[1:]); isStage {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, os.Args[1:]))
}

// exit passes on the exit status of a program that was run for the user, which has said itself what is
// wrong. That of a program that the lab ran for itself is wrapped in what it was for.
func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	if status, ok := err.(*exec.ExitError); ok && status.Exited() {
		os.Exit(status.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	lab, err := cluster.New(cluster.NewProgress(os.Stdout))
	if err != nil {
		return err
	}
	verbs := map[string]func(context.Context, *cluster.Lab, []string) error{
		"up": up, "down": down, "status": status, "build": build, "kubectl": kubectl,
		"env": env, "exec": execute,
		"install": install, "images": images, "load-image": loadImage, "e2e": e2e,
	}
	verb, ok := verbs[args[0]]
	if !ok {
		return fmt.Errorf("no verb %q\n%s", args[0], usage)
	}
	return verb(ctx, lab, args[1:])
}

func up(ctx context.Context, lab *cluster.Lab, args []string) error {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	nodes := flags.Int("nodes", 3, "number of nodes")
	keep := flags.Bool("keep", false, "leave a lab that does not come up for inspection")
	then := flags.Bool("install", false, "install Dozo as well")
	flags.Parse(args)
	if err := lab.Up(ctx, *nodes, *keep); err != nil || !*then {
		return err
	}
	return lab.Install(ctx, cluster.Installation{})
}

func install(ctx context.Context, lab *cluster.Lab, args []string) error {
	var in cluster.Installation
	flags := flag.NewFlagSet("install", flag.ExitOnError)
	flags.Func("values", "further file of values for the chart; may be repeated", func(file string) error {
		in.Values = append(in.Values, file)
		return nil
	})
	flags.Parse(args)
	return lab.Install(ctx, in)
}

func down(ctx context.Context, lab *cluster.Lab, _ []string) error {
	if err := lab.Down(ctx); err != nil {
		return err
	}
	lab.Progress.Step("down")
	return nil
}

func status(ctx context.Context, lab *cluster.Lab, _ []string) error {
	return lab.Status(ctx, os.Stdout)
}

func build(ctx context.Context, lab *cluster.Lab, args []string) error {
	flags := flag.NewFlagSet("build", flag.ExitOnError)
	suite := flags.Bool("suite", false, "build the storage suite as well")
	flags.Parse(args)
	return lab.Build(ctx, *suite)
}

func kubectl(ctx context.Context, lab *cluster.Lab, args []string) error {
	return lab.Kubectl(ctx, args)
}

func env(ctx context.Context, lab *cluster.Lab, _ []string) error {
	return lab.Env(ctx, os.Stdout)
}

func execute(_ context.Context, lab *cluster.Lab, args []string) error {
	flags := flag.NewFlagSet("exec", flag.ExitOnError)
	node := flags.String("node", "", "node to run on; beside the control plane without it")
	flags.Parse(args)
	if flags.NArg() == 0 {
		return errors.New("exec: name a program")
	}
	return lab.Exec(*node, flags.Args())
}
