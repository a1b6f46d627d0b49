package synology_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestNumbersAndFencesUnderFire: two processes attach and detach volumes of two nodes as they like, on a NAS that loses calls and
// answers. No place in a target is ever told to a node for two volumes, nobody has what another one has alone, and
// after all was detached nothing is left.
func TestNumbersAndFencesUnderFire(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	ctx := t.Context()
	two := []*synology.Backend{b.open(nil), b.open(nil)}
	ids := []backend.ID{"a", "b", "c", "d", "e"}
	for _, id := range ids {
		b.create(two[0], string(id))
	}
	b.faults(
		dsmsim.Fault{Method: "map_target", Skip: 5, Times: 5, Action: dsmsim.DropDone},
		dsmsim.Fault{Method: "unmap_target", Skip: 5, Times: 5, Action: dsmsim.DropDone},
		dsmsim.Fault{Method: "unmap_target", Skip: 10, Times: 5, Action: dsmsim.DropBefore},
		dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Method: "delete", Skip: 3, Times: 10, Action: dsmsim.DropBefore},
		dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Method: "create", Skip: 3, Times: 5, Action: dsmsim.DropDone},
		dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Method: "set", Skip: 3, Times: 5, Action: dsmsim.DropDone},
		dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Method: "set", Skip: 10, Times: 5, Action: dsmsim.DropBefore},
	)
	var mu sync.Mutex
	told := map[string]backend.ID{} // by place
	busy := map[backend.ID]*sync.Mutex{}
	for _, id := range ids {
		busy[id] = &sync.Mutex{}
	}
	var all sync.WaitGroup
	for w := range 6 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for range 60 {
				p, id, node := two[w%2], ids[random.IntN(len(ids))], fmt.Sprint("n", random.IntN(2))
				busy[id].Lock() // as the pool and Kubernetes see to it
				if random.IntN(2) == 0 {
					_ = p.Detach(ctx, id, node)
				} else if a, err := p.Attach(ctx, id, backend.AttachRequest{Node: node}); err == nil {
					place := fmt.Sprint(a.ISCSI.Target.IQN, " ", a.ISCSI.Target.LUN)
					mu.Lock()
					if had := told[place]; had != "" && had != id {
						t.Errorf("%s was told for %s and for %s", place, had, id)
					}
					told[place] = id
					mu.Unlock()
				}
				busy[id].Unlock()
			}
		})
	}
	all.Wait()
	b.faults()
	for _, id := range ids {
		fine(t, two[0].Detach(ctx, id, ""))
		for _, node := range []string{"n0", "n1"} {
			fine(t, two[1].Detach(ctx, id, node))
		}
		fine(t, two[1].Delete(ctx, id))
	}
	if left := b.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
