package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
)

// maxShown is how many pools a summary names: it is a column of a table.
const maxShown = 6

// summary is what all pools of a node have, of all agents there.
func summary(pools []v1alpha1.NodePool) v1alpha1.NodeSummary {
	var s v1alpha1.NodeSummary
	ready := 0
	var rooms []string
	for _, p := range pools {
		s.Volumes += p.Volumes
		s.Orphans += p.Orphans
		if meta.IsStatusConditionTrue(p.Conditions, v1alpha1.ConditionReady) {
			ready++
			rooms = append(rooms, p.Name+" "+backend.FormatSize(p.Available.Value()))
		} else {
			rooms = append(rooms, p.Name+" not ready")
		}
	}
	if len(rooms) > maxShown {
		rooms = append(rooms[:maxShown], fmt.Sprintf("%d more", len(rooms)-maxShown))
	}
	s.Ready, s.Available = fmt.Sprintf("%d/%d", ready, len(pools)), strings.Join(rooms, ", ")
	return s
}

// sinceWhen gives orphans that were known before the time when they were found.
func sinceWhen(now, before []v1alpha1.Orphan) []v1alpha1.Orphan {
	now = slices.Clone(now)
	for i, o := range now {
		if k := slices.IndexFunc(before, func(b v1alpha1.Orphan) bool { return record.OrphanKey(b) == record.OrphanKey(o) }); k >= 0 {
			now[i].Since = before[k].Since
		}
	}
	return now
}

// tellOrphans tells people of the orphans that were not there before.
func (a *Agent) tellOrphans(s *session, before, now *v1alpha1.NodeStorage) {
	known := map[string]bool{}
	for _, p := range before.Status.Pools {
		for _, o := range p.OrphanItems {
			known[p.Name+"/"+record.OrphanKey(o)] = true
		}
	}
	for _, p := range now.Status.Pools {
		var fresh []string
		for _, o := range p.OrphanItems {
			if !known[p.Name+"/"+record.OrphanKey(o)] {
				fresh = append(fresh, record.OrphanKey(o))
			}
		}
		if len(fresh) > 0 && p.Kind == a.opts.Kind {
			s.events.Eventf(now, nil, corev1.EventTypeWarning, "OrphanFound", "Scan",
				"pool %s has on its storage and in no object: %.512s; they stay as they are, see: dozo orphans", p.Name, strings.Join(fresh, ", "))
		}
	}
}

// tellProblems tells people what is wrong with volumes of a pool and was not before. What many volumes have, such
// as a thin pool that is nearly full, is told once.
func (a *Agent) tellProblems(ctx context.Context, s *session, pool string, before, now map[string]backend.Problem) {
	node := &v1alpha1.NodeStorage{}
	if err := s.client.Get(ctx, client.ObjectKey{Name: a.opts.Node}, node); err != nil {
		return // the volumes say it too
	}
	for reason, p := range now {
		if _, known := before[reason]; !known {
			s.events.Eventf(node, nil, corev1.EventTypeWarning, reason, "Scan", "pool %s: %.900s", pool, p.Message)
		}
	}
}
