package synology_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// masked is a pool of which the law gets to see what its volumes of one sort can do.
type masked struct {
	*synology.Backend
	mask backend.Mask
}

// Mask is [backend.Proxy].
func (m masked) Mask() backend.Mask { return m.mask }

// harness is that of a NAS of its own for each law.
func harness(cfg dsmsim.Config, options, parameters map[string]string, hide func(*backend.Mask)) backendtest.Harness {
	beds := map[backend.Backend]*bed{}
	wrap := func(b *bed, p *synology.Backend) backend.Backend {
		m := synology.Kind().Mask(nil)
		hide(&m)
		w := &masked{p, m}
		beds[w] = b
		return w
	}
	return backendtest.Harness{
		Kind: synology.Kind(), Parameters: parameters, Thin: true, Callers: 8, Timeout: 5 * time.Minute,
		Open: func(t testing.TB) backend.Backend {
			b := newBed(t, cfg)
			return wrap(b, b.open(options))
		},
		Reopen: func(_ testing.TB, p backend.Backend) backend.Backend { return wrap(beds[p], beds[p].open(options)) },
		Data: func(_ testing.TB, p backend.Backend, id backend.ID) (backendtest.Content, error) {
			return beds[p].image(p.(*masked).Backend, id)
		},
		Unreachable: func(t testing.TB, p backend.Backend) func() {
			fine(t, beds[p].server.Stop())
			return func() { fine(t, beds[p].server.Start()) }
		},
		Strangers: strangers(beds),
		Leaks:     func(_ testing.TB, p backend.Backend) []string { return beds[p].left() },
	}
}

// strangers are what an administrator, another pool and another cluster have on the NAS, some of it by our names.
func strangers(beds map[backend.Backend]*bed) func(testing.TB, backend.Backend) func() error {
	return func(t testing.TB, p backend.Backend) func() error {
		b, ctx := beds[p], t.Context()
		var uuids []string
		for name, description := range map[string]string{"theirs": "", "dozo.nas.by-hand": "by hand", "dozo.nas2.x": `{"dozo":1,"pool":"nas2","id":"x"}`,
			"dozo.nas.y": `{"dozo":1,"cluster":"c2","pool":"nas","id":"y"}`, "renamed": `{"dozo":1,"pool":"nas","id":"renamed"}`} {
			uuid, err := b.nas.CreateLUN(ctx, dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: 1 << 20, Description: description, Attrs: []string{dsm.AttrSnapshot}})
			fine(t, err)
			for l, err := b.nas.LUN(ctx, uuid); err != nil || bool(l.IsActionLocked); l, err = b.nas.LUN(ctx, uuid) {
				fine(t, err)
			}
			_, err = b.nas.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: uuid, Name: "hourly", Description: "DSM's"})
			fine(t, err)
			uuids = append(uuids, uuid)
		}
		fine(t, b.nas.CreateShare(ctx, dsm.NewShare{Name: "homes", VolumePath: "/volume1"}))
		fine(t, b.nas.CreateShare(ctx, dsm.NewShare{Name: "dz-copied", VolumePath: "/volume1", Description: `{"dozo":1,"pool":"nas","id":"copied"}`}))
		_, err := b.nas.CreateTarget(ctx, dsm.NewTarget{Name: "dozo.nas2.n1", IQN: "iqn.theirs"})
		fine(t, err)
		return func() error {
			for _, uuid := range uuids {
				taken, err := b.nas.Snapshots(ctx, uuid)
				if err != nil || len(taken) != 1 {
					return fmt.Errorf("LUN %s of a stranger: snapshots %+v, %w", uuid, taken, err)
				}
				if err := b.nas.DeleteLUN(ctx, uuid); err != nil {
					return err
				}
				for err == nil {
					_, err = b.nas.LUN(ctx, uuid)
				}
			}
			target, err := b.nas.Target(ctx, "dozo.nas2.n1")
			if err != nil {
				return err
			}
			for _, err := range []error{b.nas.DeleteTarget(ctx, int64(target.ID)), b.nas.DeleteShare(ctx, "homes"), b.nas.DeleteShare(ctx, "dz-copied")} {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
}

func nothingHidden(*backend.Mask) {}

func noSnapshots(m *backend.Mask) { m.Snapshotter = false }

func noCopies(m *backend.Mask) { m.Snapshotter, m.Cloner = false, false }

func TestLawOfLUNs(t *testing.T) {
	t.Parallel()
	backendtest.Run(t, harness(dsmsim.Config{}, nil, nil, nothingHidden))
}

// TestLawOfSlowNAS: the NAS goes on working on LUNs after it has answered.
func TestLawOfSlowNAS(t *testing.T) {
	t.Parallel()
	slow := dsmsim.Config{CreateLock: 30 * time.Millisecond, CloneLock: 60 * time.Millisecond, DeleteLag: 30 * time.Millisecond}
	backendtest.Run(t, harness(slow, map[string]string{"targets": "volume", "clusterID": "c1"}, nil, nothingHidden))
}

func TestLawOfThickLUNs(t *testing.T) {
	t.Parallel()
	h := harness(dsmsim.Config{}, map[string]string{"location": "/volume1"}, map[string]string{"type": "thick"}, noCopies)
	h.Thin = false
	backendtest.Run(t, h)
}

func TestLawOfShares(t *testing.T) {
	t.Parallel()
	h := harness(dsmsim.Config{ForgetQuota: true}, map[string]string{"protocol": "nfs"}, nil, noSnapshots)
	h.Elected = true // who is attached to a share is in its description, which DSM overwrites without looking
	backendtest.Run(t, h)
}

// TestLawOfSharesOnExt4 has them by parameter, served to a network, on a DSM that takes settings of NFS as a whole.
func TestLawOfSharesOnExt4(t *testing.T) {
	t.Parallel()
	parameters := map[string]string{"protocol": "nfs", "quota": "false", "location": "/volume2", "allow": "10.0.0.0/24"}
	h := harness(dsmsim.Config{WholeNFS: true}, nil, parameters, noCopies)
	h.Elected = true
	backendtest.Run(t, h)
}

// TestLawOfSMBShares has them for a user who has permission while somebody is attached.
func TestLawOfSMBShares(t *testing.T) {
	t.Parallel()
	h := harness(dsmsim.Config{ForgetQuota: true}, map[string]string{"protocol": "smb", "users": "k8s"}, nil, noSnapshots)
	h.Elected = true
	backendtest.Run(t, h)
}
