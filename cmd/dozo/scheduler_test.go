package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/api"
)

// TestSchedulerFlags: what cannot be is refused before anything is tried, with the flag's name.
func TestSchedulerFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--mode", "best"}, "--mode"},
		{[]string{"--default-divisor", "0"}, "--default-divisor"},
		{[]string{"--divisor", "ssd=-1"}, `divisor of pool "ssd"`},
		{[]string{"--divisor", "ssd=many"}, "--divisor ssd=many: not a number"},
		{[]string{"--tls-cert-file", "x"}, "tls-key-file"},
		{[]string{"--log-format", "xml"}, "--log-format"},
		{[]string{"--kubeconfig", "/nonexistent"}, "--kubeconfig"},
	} {
		cmd := schedulerCommand()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(c.args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %q", c.args, err, c.want)
		}
	}
	webhook := webhookCommand()
	webhook.SilenceErrors, webhook.SilenceUsage = true, true
	webhook.SetArgs([]string{"--secret", "name", "--host", "h"})
	if err := webhook.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "NAMESPACE/NAME") {
		t.Errorf("--secret without a namespace: error %v", err)
	}
}

// TestSchedulerServes starts the command as a user does, and ends it.
func TestSchedulerServes(t *testing.T) {
	server := api.Start(t)
	address, metrics := freeAddress(t), freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		cmd := schedulerCommand()
		cmd.SetArgs([]string{"--kubeconfig", server.Kubeconfig(), "--listen", address, "--metrics-address", metrics, "--divisor", "ssd=10"})
		ended <- cmd.ExecuteContext(ctx)
	}()
	waitOK(t, "http://"+address+"/healthz", ended)
	waitOK(t, "http://"+metrics+"/metrics", ended)
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it does not end")
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitOK asks until the answer is 200.
func waitOK(t *testing.T, url string, ended <-chan error) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		default:
		}
		r, err := http.Get(url)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("status %s", r.Status)
		}
		last = err
	}
	t.Fatalf("%s: %v", url, last)
}
