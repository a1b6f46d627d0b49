package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/dozo-dev/dozo/test/lab/cluster"
)

func images(ctx context.Context, lab *cluster.Lab, _ []string) error {
	names, err := lab.Images(ctx)
	for _, name := range names {
		fmt.Println(name)
	}
	return err
}

func loadImage(ctx context.Context, lab *cluster.Lab, args []string) error {
	var request cluster.ImageRequest
	flags := flag.NewFlagSet("load-image", flag.ExitOnError)
	flags.StringVar(&request.Name, "name", "", "reference of an image to assemble")
	flags.BoolVar(&request.Shell, "shell", false, "with a shell and the usual tools")
	flags.Func("program", "program of this machine to add with its libraries; may be repeated", func(name string) error {
		request.Programs = append(request.Programs, name)
		return nil
	})
	flags.Func("package", "Debian package to install with all that it needs; may be repeated", func(name string) error {
		request.Packages = append(request.Packages, name)
		return nil
	})
	flags.Parse(args)
	if request.Name != "" {
		request.Files = flags.Args()
		image, err := request.Image(ctx)
		if err != nil {
			return err
		}
		return lab.LoadImage(ctx, image)
	}
	if flags.NArg() == 0 {
		return errors.New("load-image: name an archive, or --name and files or packages")
	}
	for _, archive := range flags.Args() {
		if err := lab.LoadArchive(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

func e2e(ctx context.Context, lab *cluster.Lab, args []string) error {
	var run cluster.SuiteRun
	flags := flag.NewFlagSet("e2e", flag.ExitOnError)
	flags.StringVar(&run.Driver, "driver", "", "the test driver's definition, a YAML file")
	flags.StringVar(&run.Focus, "focus", "External.Storage", "only tests whose name matches")
	flags.StringVar(&run.Skip, "skip", cluster.DefaultSkip, "no tests whose name matches")
	flags.IntVar(&run.Procs, "procs", 2, "tests at a time")
	flags.StringVar(&run.Out, "out", "", "directory for log and reports")
	flags.DurationVar(&run.Timeout, "timeout", 3*time.Hour, "end of the whole run")
	flags.Parse(args)
	if run.Driver == "" {
		return errors.New("e2e: --driver is required: the YAML file that describes the driver to the suite")
	}
	return lab.RunSuite(ctx, run)
}
