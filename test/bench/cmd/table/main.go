// Command table prints the figures of a run of make bench as a table in Markdown: table FILE.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/dozo-dev/dozo/test/bench/report"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("give the file that make bench wrote, such as coverage/bench.json")
	}
	if _, err := os.Stat(args[0]); err != nil {
		return err // Read would make a new one
	}
	f, err := report.Read(args[0])
	if err != nil {
		return err
	}
	return f.Table(os.Stdout)
}
