package agent

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/errs"
)

// gone reports whether an object is not there any more.
func (b *bed) gone(o client.Object) bool {
	b.t.Helper()
	err := b.Client.Get(b.t.Context(), client.ObjectKeyFromObject(o), o)
	b.must(client.IgnoreNotFound(err))
	return apierrors.IsNotFound(err)
}

// TestPoolWithVolumesStays: deleting a Pool that has volumes takes nothing from them; it goes with the last.
func TestPoolWithVolumesStays(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	f1, _, p := b.twoNodes(64<<20, 64<<20)
	b.controllers()
	r := request("v")
	r.Nodes = []string{"n1"}
	_, err := p.Create(ctx, r)
	b.must(err)
	held := func() bool { return controllerutil.ContainsFinalizer(b.poolObject("p"), v1alpha1.PoolFinalizer) }
	b.until("the pool is held", held)
	b.must(p.Delete(ctx, "v"))
	b.until("an empty pool is not held", func() bool { return !held() })

	_, err = p.Create(ctx, r)
	b.must(err)
	b.until("the pool is held again", held)
	b.must(b.Client.Delete(ctx, b.poolObject("p")))
	b.until("it says what keeps it", func() bool {
		c := meta.FindStatusCondition(b.poolObject("p").Status.Conditions, v1alpha1.ConditionInUse)
		return c != nil && strings.Contains(c.Message, "1 volumes and 0 snapshots")
	})
	b.until("and gets no new volumes", func() bool {
		_, err := p.Create(ctx, request("late"))
		if err == nil {
			b.must(p.Delete(ctx, "late"))
		}
		return errs.Is(err, errs.Unavailable) && strings.Contains(err.Error(), "being deleted")
	})
	if v, err := p.Expand(ctx, "v", 4<<20); err != nil || v.Size != 4<<20 {
		t.Errorf("its volume is not served any more: %+v, %v", v, err)
	}
	if _, err := f1.opened().Get(ctx, "v"); err != nil {
		t.Error(err)
	}
	b.must(p.Delete(ctx, "v"))
	b.until("it goes with its last volume", func() bool { o := &v1alpha1.Pool{}; o.Name = "p"; return b.gone(o) })
}

// TestNodeSummary: the table of NodeStorages shows all pools of a node.
func TestNodeSummary(t *testing.T) {
	b := newBed(t)
	b.twoNodes(64<<20, 64<<20)
	b.pool("second", "fake", nil)
	b.ready("second", "n1")
	b.pool("wrong", "fake", map[string]string{"speed": "9000"})
	b.until("the summary has all pools", func() bool {
		n := &v1alpha1.NodeStorage{}
		n.Name = "n1"
		if b.gone(n) {
			return false
		}
		return n.Status.Summary == v1alpha1.NodeSummary{Ready: "2/3", Available: "p 64Mi, second 64Mi, wrong not ready"}
	})
}
