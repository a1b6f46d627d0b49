// Dsmsim runs a simulated Synology NAS, to try a driver on it by hand.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dozo-dev/dozo/test/dsmsim"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dsmsim:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:5001", "address to listen on")
	dir := flag.String("dir", "", "directory of its state and data; empty: in memory")
	account := flag.String("account", "admin", "the account of its administrator, whose password is in $DSMSIM_PASSWORD")
	otp := flag.String("otp", "", "the one-time code that the account needs")
	csrf := flag.Bool("csrf", false, "calls need the SynoToken")
	model := flag.String("model", "medium", "how much it allows: top, large, medium, small or value")
	lag := flag.Duration("lag", 0, "how long new LUNs are action-locked and deleted ones stay")
	faults := flag.String("faults", "", "JSON file with a list of faults, read again on SIGHUP")
	verbose := flag.Bool("v", false, "print each call")
	flag.Parse()

	allows, ok := dsmsim.Models()[*model]
	if !ok {
		return fmt.Errorf("-model: %q is none", *model)
	}
	cfg := dsmsim.Config{Model: allows, Dir: *dir, CSRF: *csrf, CreateLock: *lag, CloneLock: *lag, DeleteLag: *lag,
		Accounts: []dsmsim.Account{{Name: *account, Password: os.Getenv("DSMSIM_PASSWORD"), OTP: *otp}}}
	if *dir != "" {
		files, err := dsmsim.NewFiles(*dir)
		if err != nil {
			return err
		}
		cfg.Plane = files
	}
	sim, err := dsmsim.New(cfg)
	if err != nil {
		return err
	}
	if err := readFaults(sim, *faults); err != nil {
		return err
	}
	server, err := dsmsim.Serve(*listen, printing(sim, *verbose))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s", server.URL, server.CA())
	return wait(sim, server, *faults)
}

// wait serves until it is told to end.
func wait(sim *dsmsim.Sim, server *dsmsim.Server, faults string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	for {
		select {
		case <-again:
			if err := readFaults(sim, faults); err != nil {
				fmt.Fprintln(os.Stderr, "dsmsim:", err)
			}
		case <-ctx.Done():
			return server.Stop()
		}
	}
}

func readFaults(sim *dsmsim.Sim, file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var faults []dsmsim.Fault
	if err := json.Unmarshal(text, &faults); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return sim.SetFaults(faults...)
}

// printing shows calls without their parameters, among which are secrets.
func printing(h http.Handler, on bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.ServeHTTP(w, r)
		if on {
			fmt.Printf("%s %s.%s %v\n", r.RemoteAddr, r.Form.Get("api"), r.Form.Get("method"), time.Since(start).Round(time.Microsecond))
		}
	})
}
