package synology

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// indexIn is the number of a LUN in a target, 0 if it is not in it.
func indexIn(t dsm.Target, uuid string) int {
	for _, m := range t.Mapped {
		if m.LUN == uuid {
			return int(m.Index)
		}
	}
	return 0
}

// attachLUN maps a LUN into the node's target. It looks again afterwards: the number that it got is known then, and that no
// other process attached it to another node meanwhile.
func (b *Backend) attachLUN(ctx context.Context, t thing, r backend.AttachRequest) (backend.Access, error) {
	id := backend.ID(t.mark.ID)
	names := b.targetNames(r.Node, id)
	l, err := b.settled(ctx, *t.lun) // which may take hours, and must not hold up the node's other volumes
	if err != nil {
		return backend.Access{}, err
	}
	unlock, err := b.lock(ctx, "attach "+string(id)+" to node "+r.Node, names...)
	if err != nil {
		return backend.Access{}, err
	}
	defer unlock()
	targets, err := b.nas.Targets(ctx)
	if err != nil {
		return backend.Access{}, err
	}
	if err := b.elsewhere(targets, l, names, r); err != nil {
		return backend.Access{}, err
	}
	m, err := b.note(ctx, targets, l, names, r)
	if err != nil {
		return backend.Access{}, err
	}
	g, err := b.target(ctx, targets, l, names)
	if err != nil {
		return backend.Access{}, err
	}
	index := indexIn(g, l.UUID)
	if index == 0 {
		if index, err = b.mapInto(ctx, g, l, names, r); err != nil {
			_, left := b.deleteIfEmpty(ctx, g.Name)
			return backend.Access{}, errors.Join(err, left)
		}
	}
	a := backend.ISCSIAccess(dsm.WWID(l.UUID), &backend.ISCSITarget{
		IQN: g.IQN, Portals: slices.Clone(b.opts.portals), LUN: index, CHAP: b.opts.chap.User != "",
	})
	a.ISCSI.Raw, a.ISCSI.Copied = m.isRaw(), !m.Source.IsZero()
	return a, nil
}

// note has the LUN's mark say how a node is admitted, before it is. To read only: the NAS lets all that log in write, and whoever is asked to
// admit the node otherwise has to know. As a block device: then nobody may format it, nor a copy of it.
func (b *Backend) note(ctx context.Context, targets []dsm.Target, l dsm.LUN, names []string, r backend.AttachRequest) (mark, error) {
	m, ok := b.owns(l.Description)
	if !ok {
		return m, errs.E(errs.NotFound, "LUN %s: %w", l.Name, errStranger)
	}
	noted := m.Admitted[r.Node].ReadOnly
	if noted == r.ReadOnly && (m.Raw || !r.Block) {
		return m, nil
	}
	for _, t := range targets {
		if noted != r.ReadOnly && indexIn(t, l.UUID) > 0 && slices.Contains(names, baseName(t.Name)) {
			return m, admittedOtherwise("LUN "+l.Name, r.Node, noted)
		}
	}
	return b.changeMark(ctx, l, func(m mark) mark {
		m = m.without(r.Node)
		if r.ReadOnly {
			m = m.with(r.Node, admitted{ReadOnly: true})
		}
		m.Raw = m.Raw || r.Block
		return m
	})
}

// changeMark changes the mark of a LUN as it is now, and looks afterwards whether the NAS has it so: a description that was cut off
// would make the volume nobody's.
func (b *Backend) changeMark(ctx context.Context, l dsm.LUN, change func(mark) mark) (mark, error) {
	l, err := b.nas.LUN(ctx, l.UUID)
	if err != nil {
		return mark{}, err
	}
	m, ok := b.owns(l.Description)
	if !ok {
		return m, errs.E(errs.NotFound, "LUN %s: %w", l.Name, errStranger)
	}
	before := l.Description
	m = change(m)
	text := m.text()
	if text == before {
		return m, nil
	}
	has, err := b.describe(ctx, l.UUID, text)
	if err != nil || has == text {
		return m, err
	}
	return m, errors.Join(
		errs.E(errs.Internal, "LUN %s did not take its description of %d characters, and has %.300q", l.Name, len(text), has),
		b.nas.DescribeLUN(ctx, l.UUID, before))
}

// describe gives a LUN a description, and returns the one that it has then, whatever the answer was.
func (b *Backend) describe(ctx context.Context, uuid, text string) (has string, err error) {
	refused := b.nas.DescribeLUN(ctx, uuid, text)
	now, err := b.nas.LUN(ctx, uuid)
	switch {
	case err == nil && now.Description == text:
		return text, nil
	case refused != nil:
		return "", refused
	}
	return now.Description, err
}

func admittedOtherwise(what, node string, readOnly bool) error {
	return errs.E(errs.Exists, "%s: node %s was admitted to it with read-only %v; detach it there before it is attached otherwise", what, node, readOnly)
}

// elsewhere refuses a LUN that another node has.
func (b *Backend) elsewhere(targets []dsm.Target, l dsm.LUN, names []string, r backend.AttachRequest) error {
	for _, t := range targets {
		if indexIn(t, l.UUID) > 0 && !slices.Contains(names, baseName(t.Name)) && !r.Shared {
			return errs.E(errs.InUse, "LUN %s is attached to %s; detach it there before it is attached to node %s", l.Name, b.nodeOf(t.Name), r.Node)
		}
	}
	return nil
}

// target returns the target by which a node reaches a LUN: the one that has it, or the one for it, which is made if there is none.
func (b *Backend) target(ctx context.Context, targets []dsm.Target, l dsm.LUN, names []string) (dsm.Target, error) {
	find := func(name string) int {
		return slices.IndexFunc(targets, func(t dsm.Target) bool { return t.Name == name })
	}
	for _, t := range targets {
		if slices.Contains(names, baseName(t.Name)) && indexIn(t, l.UUID) > 0 {
			return b.conform(ctx, t, l)
		}
	}
	if i := find(names[0]); i >= 0 {
		if isOnlyOf(targets[i], l) || b.conforms(targets[i]) {
			return b.conform(ctx, targets[i], l)
		}
		if _, err := b.wear(ctx, targets[i]); err != nil { // its LUNs stay as they are
			return targets[i], err
		}
	}
	err := b.newTarget(ctx, names[0])
	if dsm.CodeOf(err) == dsm.CodeNoMoreTargets {
		if swept, sweep := b.sweep(ctx, targets); sweep == nil && swept {
			err = b.newTarget(ctx, names[0])
		}
	}
	t, look := b.nas.Target(ctx, names[0])
	switch {
	case look == nil:
		return t, nil
	case err == nil:
		return t, look
	}
	return t, b.explain(ctx, err)
}

func (b *Backend) newTarget(ctx context.Context, name string) error {
	// Any number of sessions: with DSM's default of one a node whose old session lingers is locked out.
	_, err := b.nas.CreateTarget(ctx, dsm.NewTarget{Name: name, IQN: newIQN(name), CHAP: b.opts.chap, MaxSessions: 0})
	if err == nil {
		b.noteConformed(name)
	}
	return err
}

func (b *Backend) noteConformed(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conformed[name] = true
}

func (b *Backend) forgetConformed(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conformed, name)
}

// hasCHAP reports whether a target has our CHAP, as far as that can be seen: the password cannot.
func (b *Backend) hasCHAP(t dsm.Target) bool {
	auth := dsm.Number(0)
	switch {
	case b.opts.chap.MutualUser != "":
		auth = 2
	case b.opts.chap.User != "":
		auth = 1
	}
	return t.AuthType == auth && t.User == b.opts.chap.User
}

// isOnlyOf reports whether nobody is logged in to a target, and it has no other LUN. For those somebody may have been until the NAS
// restarted: a session comes back with the password that it began with, and if that is another by then it never does.
func isOnlyOf(t dsm.Target, l dsm.LUN) bool {
	return t.Idle() && !slices.ContainsFunc(t.Mapped, func(m dsm.Mapping) bool { return m.LUN != l.UUID })
}

// conforms reports whether a target of ours is what it has to be. That its password is another cannot be seen: it is ours if it was set
// since the start, and whoever is logged in has the right one.
func (b *Backend) conforms(t dsm.Target) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return t.MaxSessions == 0 && b.hasCHAP(t) && (t.AuthType == 0 || b.conformed[t.Name] || !t.Idle())
}

// conform brings the target by which a node is to reach a LUN to what it has to be, as far as others do not need it as it is.
func (b *Backend) conform(ctx context.Context, t dsm.Target, l dsm.LUN) (dsm.Target, error) {
	if !bool(t.Enabled) {
		if err := b.nas.EnableTarget(ctx, int64(t.ID)); err != nil {
			return t, err
		}
	}
	if b.conforms(t) || !isOnlyOf(t, l) {
		return t, nil
	}
	if err := b.nas.SetTarget(ctx, int64(t.ID), 0, b.opts.chap); err != nil {
		return t, err
	}
	b.noteConformed(t.Name)
	return t, nil
}

// mapInto maps a LUN and returns its number.
func (b *Backend) mapInto(ctx context.Context, g dsm.Target, l dsm.LUN, names []string, r backend.AttachRequest) (int, error) {
	refused := b.nas.MapLUN(ctx, l.UUID, int64(g.ID))
	targets, err := b.nas.Targets(ctx)
	if err != nil {
		return 0, err
	}
	if err := b.elsewhere(targets, l, names, r); err != nil {
		// Two processes attached it at once. Both let go, rather than that both have it.
		return 0, errors.Join(err, b.letGo(ctx, l, g))
	}
	for _, t := range targets {
		index := indexIn(t, l.UUID)
		switch {
		case index == 0 || t.ID != g.ID:
		case t.Name != g.Name || slices.ContainsFunc(g.Mapped, func(m dsm.Mapping) bool { return int(m.Index) == index }):
			// A LUN left meanwhile, which another process detached, and the number is that one's.
			err := errs.E(errs.Aborted, "another LUN left the target of node %s while %s was mapped into it; call again", r.Node, l.Name)
			return 0, errors.Join(err, b.letGo(ctx, l, g))
		default:
			return index, nil
		}
	}
	switch {
	case errs.Is(refused, errs.NotFound):
		return 0, errs.E(errs.NotFound, "LUN %s was deleted meanwhile: %w", l.Name, refused)
	case refused != nil:
		return 0, refused
	}
	return 0, errs.E(errs.Aborted, "LUN %s or the target of node %s went away while it was attached; call again", l.Name, r.Node)
}

// letGo takes a LUN out of a target that it must not be in. It does not give up as long as the NAS is away: whoever found
// the LUN there later would take it for attached.
func (b *Backend) letGo(ctx context.Context, l dsm.LUN, g dsm.Target) error {
	return b.until(ctx, "waiting for the NAS, to take LUN "+l.Name+" out of target "+g.Name+" again", func() (bool, error) {
		err := b.unmap(ctx, &l, []int64{int64(g.ID)})
		if errs.Is(err, errs.Unavailable) {
			return false, nil
		}
		return err == nil, err
	})
}

// detachLUN unmaps a LUN, nil if it is gone, from the node's target, and deletes the target if that was its last one.
func (b *Backend) detachLUN(ctx context.Context, l *dsm.LUN, id backend.ID, node string) error {
	names := b.targetNames(node, id)
	if l != nil && mayBeMapped(*l) {
		if _, err := b.settled(ctx, *l); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	if node == "" {
		if l == nil {
			return nil
		}
		var err error
		if names, err = b.holders(ctx, *l); err != nil || len(names) == 0 {
			return err
		}
	}
	unlock, err := b.lock(ctx, "detach "+string(id), names...)
	if err != nil {
		return err
	}
	defer unlock()
	targets, err := b.nas.Targets(ctx)
	if err != nil && !(l == nil && b.hasNoLUNs(err)) {
		return err
	}
	var mine []dsm.Target
	var in []int64
	for _, t := range targets {
		if !slices.Contains(names, baseName(t.Name)) {
			continue
		}
		if l != nil && indexIn(t, l.UUID) > 0 {
			if t, err = b.wear(ctx, t); err != nil {
				return err
			}
			in = append(in, int64(t.ID))
		}
		mine = append(mine, t)
	}
	if err := b.unmap(ctx, l, in); err != nil {
		return err
	}
	if err := b.forgetReadOnly(ctx, l, node); err != nil {
		return err
	}
	for _, t := range mine {
		if len(t.Mapped) == 0 || len(t.Mapped) == 1 && slices.Contains(in, int64(t.ID)) {
			if err := b.retire(ctx, t); err != nil {
				return err
			}
		}
	}
	// Others were left because somebody was logged in, as a node is that lost its volume by force. They may be free by now, and are
	// scarce; that they stay for now is no reason for this volume not to be out.
	if _, err := b.sweep(ctx, targets); err != nil {
		b.log.Debug("an empty target is left for now", "pool", b.pool, "error", err)
	}
	return nil
}

// forgetReadOnly removes from a LUN's mark, if there still is one, what note noted of a node.
func (b *Backend) forgetReadOnly(ctx context.Context, l *dsm.LUN, node string) error {
	if l == nil {
		return nil
	}
	m, ok := b.owns(l.Description)
	if !ok || len(m.without(node).Admitted) == len(m.Admitted) {
		return nil
	}
	_, err := b.changeMark(ctx, *l, func(m mark) mark { return m.without(node) })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func mayBeMapped(l dsm.LUN) bool {
	mapped, known := l.Mapped()
	return mapped || !known
}

// holders are the targets of ours that have a LUN.
func (b *Backend) holders(ctx context.Context, l dsm.LUN) ([]string, error) {
	targets, err := b.nas.Targets(ctx)
	var names []string
	for _, t := range targets {
		if indexIn(t, l.UUID) > 0 && b.isOurTarget(t.Name) {
			names = append(names, baseName(t.Name))
		}
	}
	return names, err
}

// wear renames a target that a LUN is about to leave, so that no other LUN gets the number. A node that was cut off while it
// had the LUN mounted may not know yet: what it writes next would go to whichever LUN has the number then (it does, with the
// kernel's initiator: test/dsmsim/nas). Its other LUNs stay; the next one that it attaches gets another target. One of a
// single volume gives its number to no other. So is one whose CHAP is another than the next LUN's would be.
//
// It comes before the LUN is unmapped, and whoever maps one looks at the name afterwards: so of two processes one sees the other.
// A target that is to be deleted next, with nobody logged in, is worn too for that, but not if DSM will not have it.
func (b *Backend) wear(ctx context.Context, t dsm.Target) (dsm.Target, error) {
	worn := baseName(t.Name) != t.Name
	if worn || b.isOfOneVolume(t.Name) {
		return t, nil
	}
	b.forgetConformed(t.Name) // the next one of its name is another
	name := b.wornName(t)
	err := b.nas.RenameTarget(ctx, int64(t.ID), name)
	if err != nil {
		now, look := b.nas.Target(ctx, strconv.FormatInt(int64(t.ID), 10))
		if errs.Is(look, errs.NotFound) {
			return t, nil // it is gone, and its IQN with it
		}
		if look == nil && baseName(now.Name) != now.Name {
			return now, nil // somebody else was faster
		}
		if dsm.CodeOf(err) != 0 && !errs.Is(err, errs.Unavailable) && len(t.Mapped) == 1 && t.Idle() {
			return t, nil
		}
		return t, errs.E(errs.KindOf(err), "target %s: it is to get no more LUNs, and has to be renamed for that: %w", t.Name, err)
	}
	t.Name = name
	return t, nil
}

// unmap takes a LUN out of targets. That it is out is looked up where the answer does not say so.
func (b *Backend) unmap(ctx context.Context, l *dsm.LUN, targets []int64) error {
	if len(targets) == 0 {
		return nil
	}
	refused := b.nas.UnmapLUN(ctx, l.UUID, targets...)
	if refused == nil || errs.Is(refused, errs.NotFound) {
		return nil
	}
	now, err := b.nas.Targets(ctx)
	if err != nil {
		return err
	}
	for _, t := range now {
		if slices.Contains(targets, int64(t.ID)) && indexIn(t, l.UUID) > 0 {
			return refused
		}
	}
	return nil
}

// retire deletes a target that the last LUN has left, or if somebody is logged in sees to it that it gets no other.
func (b *Backend) retire(ctx context.Context, t dsm.Target) error {
	deleted, err := b.deleteIfEmpty(ctx, t.Name)
	if err != nil || deleted {
		return err
	}
	t.Mapped = nil
	_, err = b.wear(ctx, t)
	return err
}

// deleteIfEmpty deletes a target with no LUN and nobody logged in: one under whom a target goes away tries to
// log in again for ever.
func (b *Backend) deleteIfEmpty(ctx context.Context, name string) (bool, error) {
	t, err := b.nas.Target(ctx, name)
	switch {
	case errs.Is(err, errs.NotFound):
		return false, nil
	case err != nil:
		return false, err
	case len(t.Mapped) > 0 || !t.Idle():
		return false, nil
	}
	b.forgetConformed(name) // the next one of its name is another
	refused := b.nas.DeleteTarget(ctx, int64(t.ID))
	if refused == nil {
		return true, nil
	}
	if _, err := b.nas.Target(ctx, name); errs.Is(err, errs.NotFound) {
		return true, nil
	}
	return false, refused
}

// sweep deletes empty targets of ours, which were left because somebody was logged in, to make room for another. Those that are being
// worked with stay.
func (b *Backend) sweep(ctx context.Context, targets []dsm.Target) (swept bool, err error) {
	over, cancel := context.WithCancel(ctx)
	cancel()
	for _, t := range targets {
		if !b.isOurTarget(t.Name) || len(t.Mapped) > 0 || !t.Idle() {
			continue
		}
		unlock, taken := b.lock(over, "sweep", baseName(t.Name)) // does not wait
		if taken != nil {
			continue
		}
		done, err := b.deleteIfEmpty(ctx, t.Name)
		unlock()
		if err != nil {
			return swept, err
		}
		swept = swept || done
	}
	return swept, nil
}
