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
	"slices"
	"strings"
	"syscall"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/test/lab/agent"
	"github.com/dozo-dev/dozo/test/lab/cluster"
)

const usage = `usage: lab VERB
  up [--nodes N] [--kernel host|guest] [--memory MIB] [--disk SIZE]... [--nas]
     [--keep] [--install]
                             build what is missing and start the cluster;
                             --kernel guest: each node is a User-Mode Linux
                             machine, with device-mapper and the like, this much
                             memory (2048) and these empty disks (8Gi, twice);
                             --nas: with a simulated Synology beside them, which
                             exec, crash and boot know as the node nas;
                             --install: and install Dozo
  install [--values FILE]... build Dozo, install its chart with helm or bring it
                             up to date, and run a pod with a volume
  down                       end it; nothing stays but the cache
  status                     nodes, and components that have ended
  build [--suite]            only build; --suite: the storage suite as well
  kubectl ARG...             kubectl as the administrator
  env                        shell lines: eval "$(lab env)"
  exec [NODE] -- PROGRAM [ARG...]
                             run inside a node, or beside the control plane
  crash NODE                 cut the power of a node with its own kernel
  boot NODE                  and start it again, with the disks as they are
  nas                        what the simulated Synology has: LUNs, shares,
                             snapshots, targets
  images                     references of the images that nodes start with
  load-image ARCHIVE...      import OCI or docker archives on every node
  load-image --name REF [--shell] [--program NAME]... [FILE:/PATH]...
                             assemble an image from files and this machine's
                             programs and import it on every node; the first
                             file is the entrypoint
  load-image --name REF --package NAME...
                             or from Debian packages, postgresql say
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
	if exit, ok := err.(*agent.ExitError); ok && exit.Status > 0 {
		os.Exit(exit.Status)
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
		"env": env, "exec": execute, "crash": crash, "boot": boot, "nas": nas,
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
	config := cluster.Config{Kernel: cluster.Kernel(os.Getenv("DOZO_LAB_KERNEL"))}
	flags.IntVar(&config.Nodes, "nodes", 0, "number of nodes (default 3)")
	flags.Func("kernel", "whose kernel nodes have, host or guest (default $DOZO_LAB_KERNEL, or host)", func(kernel string) error {
		config.Kernel = cluster.Kernel(kernel)
		return nil
	})
	flags.IntVar(&config.MemoryMiB, "memory", 0, "MiB of a guest's memory (default 2048)")
	flags.Func("disk", "size of an empty disk of each guest, such as 8Gi; may be repeated (default twice 8Gi)", func(size string) error {
		bytes, err := backend.ParseSize(size)
		config.Disks = append(config.Disks, bytes)
		return err
	})
	flags.BoolVar(&config.NAS, "nas", false, "start a simulated Synology NAS beside the nodes, which have to be guests")
	flags.BoolVar(&config.Keep, "keep", false, "leave a lab that does not come up for inspection")
	then := flags.Bool("install", false, "install Dozo as well")
	flags.Parse(args)
	if err := lab.Up(ctx, config); err != nil || !*then {
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

// execute takes the node before the dashes. An interrupt is the program's, which has it from the terminal.
func execute(_ context.Context, lab *cluster.Lab, args []string) error {
	dashes := slices.Index(args, "--")
	if dashes < 0 || dashes > 1 || dashes == len(args)-1 {
		return errors.New("exec: write exec [NODE] -- PROGRAM [ARG...]")
	}
	node := strings.Join(args[:dashes], "")
	return lab.Exec(context.Background(), node, args[dashes+1:], agent.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

func crash(ctx context.Context, lab *cluster.Lab, args []string) error {
	if len(args) != 1 {
		return errors.New("crash: name one node")
	}
	return lab.Crash(ctx, args[0])
}

func boot(ctx context.Context, lab *cluster.Lab, args []string) error {
	if len(args) != 1 {
		return errors.New("boot: name one node")
	}
	return lab.Boot(ctx, args[0])
}

func nas(_ context.Context, lab *cluster.Lab, _ []string) error {
	all, err := lab.Contents()
	for _, line := range all {
		fmt.Println(line)
	}
	return err
}
