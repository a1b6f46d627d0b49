package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
)

// gate is what a process's calls go through, to the API server and to the NAS. It can kill the process when one of them has had its effect:
// it hears no answer, and nothing that it does afterwards arrives.
type gate struct {
	mu    sync.Mutex
	calls int
	at    int // kill after this call, counted from 1; 0 is never
	dead  bool
	kill  context.CancelFunc
}

// open has the next process live until a call; 0: to its end.
func (g *gate) open(ctx context.Context, at int) context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	ctx, g.kill = context.WithCancel(ctx)
	g.calls, g.at, g.dead = 0, at, false
	return ctx
}

// pass does a call, and reports whether there is still somebody to hear its answer.
func (g *gate) pass(do func()) bool {
	g.mu.Lock()
	g.calls++
	now, dead := g.calls == g.at, g.dead
	g.mu.Unlock()
	if !dead {
		do()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dead = g.dead || now
	if g.dead {
		g.kill()
	}
	return !g.dead
}

// handler answers the dead that there is no such method, which they do not ask again.
func (g *gate) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		if !g.pass(func() { h.ServeHTTP(answer, r) }) {
			_, _ = w.Write([]byte(`{"success":false,"error":{"code":103}}`))
			return
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (g *gate) transport(base http.RoundTripper) http.RoundTripper {
	return tripper(func(r *http.Request) (answer *http.Response, err error) {
		// Its end must not be what ends the call that it is killed after.
		if !g.pass(func() { answer, err = base.RoundTrip(r.WithContext(context.WithoutCancel(r.Context()))) }) {
			if answer != nil {
				answer.Body.Close()
			}
			return nil, errors.New("killed")
		}
		return answer, err
	})
}

// importKilled kills the command after each of its calls, to the API server and to the NAS, and runs it again: in the end there is what there
// is when it is not killed.
func importKilled(b *nasBed) {
	for what, move := range map[string]func(n int) *moving{"LUN": b.movingLUN, "share": b.movingShare} {
		n := 0
		// try kills one at a call, and has another finish; how many calls the first made.
		try := func(at int) int {
			n++
			m := move(n)
			f := importFlags{synology: true, claim: "default/" + m.claim}
			out, err := b.runIn(b.gate.open(b.t.Context(), at), f)
			calls := b.gate.calls
			if b.gate.dead != (at > 0) || at == 0 && err != nil {
				b.t.Fatalf("%s, killed at %d of %d calls: %v: %s", what, at, calls, err, out)
			}
			if at > 0 {
				if out, err := b.runIn(b.gate.open(b.t.Context(), 0), f); err != nil {
					b.t.Errorf("%s, killed after call %d, and run again: %v: %s", what, at, err, out)
				}
			}
			if err := m.done(); err != nil {
				b.t.Errorf("%s, killed after call %d: %v", what, at, err)
			}
			return calls
		}
		calls := try(0)
		for at := 1; at <= calls; at++ {
			try(at)
		}
		b.t.Logf("%s: killed after each of %d calls", what, calls)
	}
}

// moving is a volume of Synology's driver that is being imported.
type moving struct {
	claim string
	done  func() error // whether it is what it should be in the end
}

func (b *nasBed) movingLUN(n int) *moving {
	b.t.Helper()
	claim, pv := fmt.Sprintf("lun-%d", n), fmt.Sprintf("pvc-lun-%d", n)
	uuid, image := b.lun("k8s-csi-" + pv)
	b.old(claim, pv, b.oldSpec(uuid, claim, corev1.ReadWriteOnce))
	return &moving{claim, func() error {
		l, err := b.nas.LUN(b.t.Context(), uuid)
		if err != nil || l.Name != "dozo.nas.dozo-"+pv || !strings.Contains(l.Description, `"from":"`+uuid+`"`) {
			return fmt.Errorf("the LUN is %+v, %w", l, err)
		}
		if text, err := os.ReadFile(image); err != nil || string(text) != "k8s-csi-"+pv+"'s data" {
			return fmt.Errorf("it holds %q, %w", text, err)
		}
		return b.moved(pv, dsm.WWID(uuid))
	}}
}

func (b *nasBed) movingShare(n int) *moving {
	b.t.Helper()
	claim, pv := fmt.Sprintf("share-%d", n), fmt.Sprintf("pvc-share-%d", n)
	name := "k8s-csi-" + pv
	b.fine(b.nas.CreateShare(b.t.Context(), dsm.NewShare{Name: name, VolumePath: "/volume1", QuotaMB: 5}))
	s, err := b.nas.Share(b.t.Context(), name)
	b.fine(err)
	b.old(claim, pv, b.oldSpec(s.UUID, claim, corev1.ReadWriteMany, "protocol", "nfs"))
	return &moving{claim, func() error {
		all, err := b.nas.Shares(b.t.Context())
		for _, now := range all {
			if now.UUID == s.UUID {
				if !strings.HasPrefix(now.Name, "dz-dozo-") || now.QuotaMB != 5 || !strings.Contains(now.Description, `"from":"`+s.UUID+`"`) {
					return fmt.Errorf("the share is %+v", now)
				}
				return b.moved(pv, "/volume1/"+now.Name)
			}
		}
		return fmt.Errorf("the share is gone: %w", err)
	}}
}

// moved looks at both PersistentVolumes.
func (b *nasBed) moved(pv, access string) error {
	b.t.Helper()
	old, p := b.pv(pv), b.pv("dozo-"+pv)
	if old.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || p.Spec.CSI.VolumeHandle != "nas:dozo-"+pv ||
		!strings.Contains(p.Spec.CSI.VolumeAttributes["dozo.dev/access"], access) || p.Spec.ClaimRef.Name != old.Spec.ClaimRef.Name {
		return fmt.Errorf("the PersistentVolumes are %+v, and %+v", old.Spec, p.Spec)
	}
	return nil
}
