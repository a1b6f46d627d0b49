package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/agent"
	"github.com/dozo-dev/dozo/test/lab/uml"
)

// TestNAS boots the NAS alone, without a cluster, on a bridge as a cluster has it: it answers, is killed, and loses its power.
func TestNAS(t *testing.T) {
	if os.Getenv("DOZO_TEST_LAB") != "1" {
		t.Skipf("long: NOT RUN: %s starts a machine of the lab; DOZO_TEST_LAB=1 go test -v -run TestNAS ./test/lab/cluster/ runs it", t.Name())
	}
	lab, err := New(NewProgress(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	lab.Name = "selftest-nas"
	cache, err := uml.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root, err := uml.Image(t.Context(), cache, guestPackages())
	if err != nil {
		t.Fatal(err)
	}
	// The node is never started; the way to Services leads by it.
	s := &spec{Run: lab.Run(), NAS: true, Nodes: []nodeSpec{{Name: "n1", Index: 1}}, Guest: &guestSpec{Cache: cache, Root: root}}
	t.Cleanup(func() { os.RemoveAll(lab.Run()) })
	for _, dir := range []string{lab.logDir(), lab.node("nas")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(lab.prepareNAS(t.Context()), lab.copySelf(t.Context(), filepath.Join(lab.Run(), "lab"), true), s.write(), s.writeCredentials()); err != nil {
		t.Fatal(err)
	}
	if err := onOwnThread(func() error { return useNAS(t, lab, s) }); err != nil {
		log, _ := os.ReadFile(filepath.Join(lab.node("nas"), nasLog))
		t.Fatalf("%v\nthe simulator:\n%s\nthe machine:\n%s", err, log, tail(filepath.Join(lab.logDir(), "nas.log"), 20))
	}
}

// useNAS runs on a thread with a network of its own, the NAS's.
func useNAS(t *testing.T, lab *Lab, s *spec) error {
	ctx := t.Context()
	supply := newSupply(s, &supervisor{logs: lab.logDir(), events: io.Discard})
	defer func() { _ = supply.set("nas", powerOff) }()
	return inOrder(
		func() error { return unix.Unshare(unix.CLONE_NEWNET) },
		func() error { return clusterNetwork(ctx, s) },
		func() error { return connectGuests(ctx, s) },
		func() error { return supply.set("nas", powerOn) },
		func() error { return logsIn(ctx, lab) },
		func() error { return onNAS(ctx, s, " /volume1 btrfs ", "cat", "/proc/mounts") },
		func() error { return onNAS(ctx, s, "", "pkill", "-KILL", "-x", nasProgram) },
		func() error { return logsIn(ctx, lab) },
		func() error { return onNAS(ctx, s, "", "touch", "/volume1/kept") },
		func() error { return onNAS(ctx, s, "", "sync") },
		func() error { return supply.set("nas", powerOff) },
		func() error { return supply.set("nas", powerOn) },
		func() error { return logsIn(ctx, lab) },
		func() error { return onNAS(ctx, s, "kept", "ls", "/volume1") },
		func() error { return hasNothing(lab) },
	)
}

// logsIn waits until the NAS takes its administrator's password, over a connection that only its certificate vouches for.
func logsIn(ctx context.Context, lab *Lab) error {
	return poll(ctx, nasStart, 200*time.Millisecond, func(ctx context.Context) error {
		n, err := lab.NAS()
		if err != nil {
			return err
		}
		ca, err := os.ReadFile(n.CA)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(n.URL, "https://"), 10*time.Second) // on this thread, whose network it is
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		form := url.Values{"api": {"SYNO.API.Auth"}, "version": {"6"}, "method": {"login"}, "account": {n.Account}, "passwd": {n.Password}, "format": {"sid"}}
		secure := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: nasSpec().address(), MinVersion: tls.VersionTLS12})
		if _, err := fmt.Fprintf(secure, "GET /webapi/entry.cgi?%s HTTP/1.0\r\n\r\n", form.Encode()); err != nil {
			return err
		}
		said, err := io.ReadAll(secure)
		if err == nil && !bytes.Contains(said, []byte(`"success":true`)) {
			err = fmt.Errorf("login: %s", said)
		}
		return err
	})
}

// onNAS runs a program on the NAS, as lab exec does, and looks for something in what it says.
func onNAS(ctx context.Context, s *spec, want string, args ...string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(nasSpec().address(), agentPort), 10*time.Second)
	if err != nil {
		return err
	}
	config, err := agentTLS(s.pkiDir(), adminUser)
	if err != nil {
		return err
	}
	config.ServerName = nasSpec().Name
	var out bytes.Buffer
	if err := agent.Run(ctx, tls.Client(conn, config), args, agent.Streams{Out: &out, Err: &out}); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, &out)
	}
	if !strings.Contains(out.String(), want) {
		return fmt.Errorf("%v says %q, want %q in it", args, &out, want)
	}
	return nil
}

// hasNothing asks from the host what the NAS has.
func hasNothing(lab *Lab) error {
	all, err := lab.Contents()
	if err == nil && len(all) > 0 {
		err = fmt.Errorf("a NAS that nobody used has %q", all)
	}
	return err
}
