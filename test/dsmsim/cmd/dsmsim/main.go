// Dsmsim runs a simulated Synology NAS, to try a driver on it by hand.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
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
	cfg := dsmsim.Config{}
	listen := flag.String("listen", "127.0.0.1:5001", "address to listen on")
	flag.StringVar(&cfg.Dir, "dir", "", "directory of its state and data; empty: in memory")
	account := flag.String("account", "admin", "the account of its administrator, whose password is in $DSMSIM_PASSWORD")
	user := flag.String("user", "", "a user of SMB, whose password is in $DSMSIM_USER_PASSWORD")
	otp := flag.String("otp", "", "the one-time code that the account needs")
	flag.BoolVar(&cfg.CSRF, "csrf", false, "calls need the SynoToken")
	flag.BoolVar(&cfg.WholeNFS, "whole-nfs", false, "settings of NFS are set all at once, as on DSM 7.3")
	model := flag.String("model", "medium", "how much it allows: top, large, medium, small or value")
	lag := flag.Duration("lag", 0, "how long new LUNs are action-locked and deleted ones stay")
	faults := flag.String("faults", "", "JSON file with a list of faults, read again on SIGHUP")
	verbose := flag.Bool("v", false, "print each call")
	d := dataFlags()
	flag.Parse()

	var ok bool
	if cfg.Model, ok = dsmsim.Models()[*model]; !ok {
		return fmt.Errorf("-model: %q is none", *model)
	}
	cfg.CreateLock, cfg.CloneLock, cfg.DeleteLag = *lag, *lag, *lag
	cfg.Accounts = []dsmsim.Account{{Name: *account, Password: os.Getenv("DSMSIM_PASSWORD"), OTP: *otp}}
	if *user != "" {
		cfg.Accounts = append(cfg.Accounts, dsmsim.Account{Name: *user, Password: os.Getenv("DSMSIM_USER_PASSWORD"), Guest: true})
	}
	if host, _, err := net.SplitHostPort(*listen); err == nil {
		cfg.Address = host
	}
	if err := d.complete(&cfg); err != nil {
		return err
	}
	sim, err := dsmsim.New(cfg)
	if err != nil {
		return err
	}
	if err := readFaults(sim, *faults); err != nil {
		return err
	}
	server, err := dsmsim.ServeFrom(cfg.Dir, *listen, printing(sim, *verbose))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s", server.URL, server.CA())
	return wait(sim, server, *faults)
}

// wait serves until it is told to end. A plane of Linux goes on serving after SIGTERM, as after SIGKILL, for the next process;
// SIGINT takes it down. SIGUSR1 takes the NAS's power away and SIGUSR2 gives it back.
func wait(sim *dsmsim.Sim, server *dsmsim.Server, faults string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	for s := range told {
		var err error
		switch s {
		case syscall.SIGHUP:
			err = readFaults(sim, faults)
		case syscall.SIGUSR1:
			err = errors.Join(server.Stop(), sim.PowerOff())
		case syscall.SIGUSR2:
			err = errors.Join(sim.PowerOn(), server.Start())
		case os.Interrupt:
			return errors.Join(server.Stop(), sim.PowerOff())
		default:
			return server.Stop()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "dsmsim: %v: %v\n", s, err)
		}
	}
	return nil
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
