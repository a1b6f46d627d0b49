package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
)

// nasFlags say which NAS a person means, as a pool's configuration would.
type nasFlags struct {
	url, secretDir, ca, pool string
	options                  map[string]string
	timeout                  time.Duration
}

func synologyCommand() *cobra.Command {
	var f nasFlags
	cmd := &cobra.Command{
		Use:   "synology",
		Short: "Look at a Synology NAS before, or when, a pool on it does not work",
		Args:  cobra.NoArgs,
	}
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.url, "url", "", "where DSM answers, as `https://HOST:5001`")
	fl.StringVar(&f.secretDir, "secret-dir", "", "`directory` with a file for each key of the pool's secret, username and password above all, as a secret is mounted")
	fl.StringVar(&f.ca, "ca", "", "`file` with the certificates that signed the NAS's")
	fl.StringVar(&f.pool, "pool", "nas", "name of the pool")
	fl.StringToStringVarP(&f.options, "option", "o", nil, "other options of the pool, as `name=value`; see dozo kinds")
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "how long the NAS has to answer")
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a NAS's set-up, and what to do",
		Long: `Look at all of a Synology NAS that a pool on it depends on, from this machine, and change nothing: whether it is reachable
and trusted, the account and its rights, DSM's version, SAN Manager, volumes, how many LUNs and targets the model allows, NFS,
and the addresses that nodes are given. Ends with status 1 if something is wrong.`,
		Example: "  dozo synology check --url https://nas.example.org:5001 --secret-dir /run/secrets/nas -o fingerprint=AB:CD:…",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.check(cmd.Context(), cmd.OutOrStdout()) },
	}, &cobra.Command{
		Use:   "enroll",
		Short: "Get the token by which a NAS with two-factor authentication knows Dozo",
		Long: `Log in once with a one-time code, which is read from standard input, and print the token that DSM gives for it. Put it into
the pool's secret as deviceToken; from then on no code is needed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.enroll(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	})
	return cmd
}

// config is that of a pool with the flags.
func (f *nasFlags) config() (backend.Config, error) {
	if f.url == "" || f.secretDir == "" {
		return backend.Config{}, errors.New("--url, --secret-dir: both are needed")
	}
	given := map[string]string{"url": f.url}
	for name, value := range f.options {
		given[name] = value
	}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return backend.Config{}, fmt.Errorf("--ca: %w", err)
		}
		given["ca"] = string(text)
	}
	options, err := backend.Complete("options", synology.Kind().Options, given)
	if err != nil {
		return backend.Config{}, fmt.Errorf("--option: %w", err)
	}
	secrets, err := readSecrets(f.secretDir)
	if err != nil {
		return backend.Config{}, fmt.Errorf("--secret-dir: %w", err)
	}
	return backend.Config{Pool: f.pool, Options: options, Secrets: secrets}, nil
}

func (f *nasFlags) check(ctx context.Context, out io.Writer) error {
	c, err := f.config()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHECK\tRESULT\tWHAT WAS FOUND")
	wrong := false
	for _, finding := range synology.Diagnose(ctx, c) {
		fmt.Fprintf(table, "%s\t%s\t%s\n", finding.What, finding.Verdict, finding.Text)
		wrong = wrong || finding.Verdict == synology.Bad
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if wrong {
		return errTold
	}
	return nil
}

func (f *nasFlags) enroll(ctx context.Context, in io.Reader, out, prompt io.Writer) error {
	c, err := f.config()
	if err != nil {
		return err
	}
	fmt.Fprint(prompt, "One-time code: ")
	code, err := bufio.NewReader(in).ReadString('\n')
	if code = strings.TrimSpace(code); code == "" {
		return errors.Join(errors.New("no code was given"), err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	token, err := synology.Enroll(ctx, c, dsm.NewSecret(code))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, token.Reveal())
	return nil
}
