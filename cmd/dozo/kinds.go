package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
)

func kindsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kinds",
		Short: "Show the kinds of storage, their pool options and class parameters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range all.Kinds(host.New()) {
				fmt.Fprintf(cmd.OutOrStdout(), "%s (CSI driver %s.dozo.dev), volumes of %s to %s\n\n",
					k.Name, k.Name, backend.FormatSize(k.MinSize), backend.FormatSize(k.MaxSize))
				if err := printParameters(cmd.OutOrStdout(), "POOL OPTION", slices.Concat(k.Options, pool.CommonOptions(k))); err != nil {
					return err
				}
				if err := printParameters(cmd.OutOrStdout(), "CLASS PARAMETER", k.Parameters); err != nil {
					return err
				}
			}
			return printParameters(cmd.OutOrStdout(), "CLASS PARAMETER OF ALL", pool.EncryptionParameters())
		},
	}
}

func printParameters(w io.Writer, head string, ps []backend.Parameter) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s\tDEFAULT\tMEANING\n", head)
	for _, p := range ps {
		value := p.Default
		if p.Required {
			value = "(required)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", p.Name, value, p.Help)
	}
	fmt.Fprintln(table)
	return table.Flush()
}
