package synology_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

const password = "correct horse battery staple"

// bed is a simulated NAS whose images are files, and pools on it.
type bed struct {
	t      testing.TB
	dir    string
	sim    *dsmsim.Sim
	plane  *plane
	server *dsmsim.Server
	nas    *dsm.Client // looks at the NAS as an administrator does

	mu     sync.Mutex
	before func(api, method string) bool // of each request; true: it never arrives
	unsaid string                        // a field that is in no answer
}

func newBed(t testing.TB, cfg dsmsim.Config) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir()}
	files, err := dsmsim.NewFiles(b.dir)
	fine(t, err)
	b.plane = &plane{Files: files}
	cfg.Plane = b.plane
	if cfg.Accounts == nil {
		cfg.Accounts = []dsmsim.Account{{Name: "dozo", Password: password}, {Name: "k8s", Guest: true}, {Name: "K9 s", Guest: true}}
	}
	b.sim, err = dsmsim.New(cfg)
	fine(t, err)
	b.server, err = dsmsim.Serve("127.0.0.1:0", http.HandlerFunc(b.serve))
	fine(t, err)
	t.Cleanup(func() { _ = b.server.Stop() })
	b.nas, err = dsm.New(dsm.Config{URL: b.server.URL, CA: b.server.CA(), Pause: time.Millisecond,
		Credentials: dsm.Credentials{Account: "dozo", Password: dsm.NewSecret(password)}})
	fine(t, err)
	return b
}

func (b *bed) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	before, unsaid := b.before, b.unsaid
	b.mu.Unlock()
	if before != nil && r.ParseForm() == nil && before(r.PostForm.Get("api"), r.PostForm.Get("method")) {
		panic(http.ErrAbortHandler)
	}
	if unsaid == "" {
		b.sim.ServeHTTP(w, r)
		return
	}
	whole := httptest.NewRecorder()
	b.sim.ServeHTTP(whole, r)
	_, _ = w.Write(bytes.ReplaceAll(whole.Body.Bytes(), []byte(`"`+unsaid+`":`), []byte(`"another":`)))
}

// leaveOut takes a field out of all answers, as another DSM may, "" none.
func (b *bed) leaveOut(field string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsaid = field
}

// intercept looks at each request before the NAS does.
func (b *bed) intercept(f func(api, method string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = f
}

func (b *bed) config(options map[string]string) backend.Config {
	b.t.Helper()
	given := map[string]string{"url": b.server.URL, "ca": string(b.server.CA())}
	for k, v := range options {
		given[k] = v
	}
	complete, err := backend.Complete("options", synology.Kind().Options, given)
	fine(b.t, err)
	return backend.Config{Pool: "nas", Options: complete, Secrets: map[string][]byte{"username": []byte("dozo"), "password": []byte(password)}}
}

func (b *bed) open(options map[string]string) *synology.Backend {
	b.t.Helper()
	return b.openAs(b.config(options))
}

func (b *bed) openAs(c backend.Config) *synology.Backend {
	b.t.Helper()
	pool, err := synology.Open(c, time.Millisecond, nil)
	fine(b.t, err)
	b.t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func (b *bed) faults(f ...dsmsim.Fault) {
	b.t.Helper()
	fine(b.t, b.sim.SetFaults(f...))
}

// left says what is on the NAS, of whomever.
func (b *bed) left() []string {
	b.t.Helper()
	ctx := context.Background()
	var all []string
	luns, err := b.nas.LUNsWithSnapshots(ctx, func(dsm.Snapshot) bool { return true })
	fine(b.t, err)
	for _, l := range luns {
		all = append(all, "LUN "+l.Name)
		for _, s := range l.Snapshots {
			all = append(all, "snapshot "+s.Name+" of "+l.Name)
		}
	}
	targets, err := b.nas.Targets(ctx)
	fine(b.t, err)
	for _, t := range targets {
		all = append(all, fmt.Sprintf("target %s with %d LUNs", t.Name, len(t.Mapped)))
	}
	shares, err := b.nas.Shares(ctx)
	fine(b.t, err)
	for _, s := range shares {
		all = append(all, "share "+s.Name)
	}
	images, err := os.ReadDir(filepath.Join(b.dir, "images"))
	fine(b.t, err)
	if n := len(images); n > 0 {
		all = append(all, fmt.Sprintf("%d images", n))
	}
	return all
}

func request(name string, change ...func(*backend.Request)) backend.Request {
	parameters, err := backend.Complete("parameters", synology.Kind().Parameters, nil)
	if err != nil {
		panic(err)
	}
	r := backend.Request{ID: backend.IDFor(name), Name: name, Size: 4 << 20, Parameters: parameters}
	for _, c := range change {
		c(&r)
	}
	return r
}

func with(name, value string) func(*backend.Request) {
	return func(r *backend.Request) { r.Parameters[name] = value }
}

func sized(n int64) func(*backend.Request) { return func(r *backend.Request) { r.Size = n } }

func of(s backend.Source) func(*backend.Request) { return func(r *backend.Request) { r.Source = s } }

func (b *bed) create(p backend.Backend, name string, change ...func(*backend.Request)) backend.Volume {
	b.t.Helper()
	v, err := p.Create(b.t.Context(), request(name, change...))
	fine(b.t, err)
	return v
}

func fine(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is fails unless an error has the kind.
func is(t testing.TB, err error, want errs.Kind) {
	t.Helper()
	if !errs.Is(err, want) {
		t.Errorf("error %v (%v), want one of the kind %v", err, errs.KindOf(err), want)
	}
}

// node is who uses volumes in the law.
var node = backend.AttachRequest{Node: "n1", Addresses: []string{"10.0.0.1"}}

// image opens the file that is a LUN's disk, or one in a share, attached meanwhile as by a node.
func (b *bed) image(p *synology.Backend, id backend.ID) (backendtest.Content, error) {
	ctx := context.Background()
	a, err := p.Attach(ctx, id, node)
	if err != nil {
		return nil, err
	}
	path := ""
	if a.Mount != nil {
		path = filepath.Join(b.dir, "shares", filepath.Base(a.Mount.Source), "data")
	} else {
		e, _ := b.plane.Export(a.ISCSI.Target.IQN)
		for _, l := range e.LUNs {
			if l.Index == a.ISCSI.Target.LUN {
				path = filepath.Join(b.dir, "images", l.Image)
			}
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &disk{File: f, plane: b.plane, detach: func() error { return p.Detach(ctx, id, node.Node) }, blank: a.Mount != nil}, nil
}

// plane copies an image in one instant, as a NAS does.
type plane struct {
	*dsmsim.Files
	writing sync.RWMutex
}

// CopyImage is that of files, between two writes.
func (p *plane) CopyImage(i dsmsim.Image, from string) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.Files.CopyImage(i, from)
}

// CopyFolder is that of files, between two writes.
func (p *plane) CopyFolder(f dsmsim.Folder, from string) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.Files.CopyFolder(f, from)
}

// disk is an attached volume. A file in a share has zeros behind its end.
type disk struct {
	*os.File
	plane  *plane
	detach func() error
	blank  bool
}

// WriteAt is that of a file.
func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	d.plane.writing.RLock()
	defer d.plane.writing.RUnlock()
	return d.File.WriteAt(p, at)
}

// ReadAt is that of a file, without an end in a share.
func (d *disk) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.File.ReadAt(p, at)
	if d.blank && errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// Close detaches.
func (d *disk) Close() error { return errors.Join(d.File.Close(), d.detach()) }
