package synology

import (
	"context"
	"net/netip"
	"reflect"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// attachShare admits a node's addresses to a share. Whom it admitted is in the mark before it is in the rules: a rule
// says no node, and a detach has to know which were whose.
func (b *Backend) attachShare(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	unlock, err := b.lock(ctx, "attach "+string(id)+" to node "+r.Node, b.shareName(id))
	if err != nil {
		return backend.Access{}, err
	}
	defer unlock()
	t, err := b.findShare(ctx, id)
	if err != nil {
		return backend.Access{}, err
	}
	if others := t.mark.without(r.Node).nodes(); len(others) > 0 && !r.Shared {
		return backend.Access{}, errs.E(errs.InUse, "share %s is attached to node %s; detach it there before it is attached to node %s", t.share.Name, others[0], r.Node)
	}
	if has, ok := t.mark.Admitted[r.Node]; ok && has.ReadOnly != r.ReadOnly {
		return backend.Access{}, admittedOtherwise("share "+t.share.Name, r.Node, has.ReadOnly)
	}
	if t.protocol() == smb {
		return b.shareAccess(t), b.attachUsers(ctx, t, r)
	}
	rules, err := b.nas.NFSRules(ctx, t.share.Name)
	if err != nil {
		return backend.Access{}, err
	}
	theirs := theirRules(rules, t.mark)
	a, err := admit(t.mark, theirs, r)
	if err != nil {
		return backend.Access{}, err
	}
	if m := t.mark.with(r.Node, a); !reflect.DeepEqual(m, t.mark) {
		if rules, err = b.dropFormer(ctx, t, m, rules); err != nil {
			return backend.Access{}, err
		}
		s, err := b.setShare(ctx, *t.share, m, int64(t.share.QuotaMB))
		if err != nil {
			return backend.Access{}, err
		}
		t.share, t.mark = &s, m
	}
	if err := b.setRules(ctx, t.share.Name, rules, append(theirs, ourRules(t.mark)...)); err != nil {
		return backend.Access{}, err
	}
	return b.shareAccess(t), nil
}

// dropFormer takes away the rules of addresses that nodes had, and have not by the next mark, as long as the mark says whose
// they are: once it says otherwise they would be somebody else's. Others are not touched, since they are in use.
func (b *Backend) dropFormer(ctx context.Context, t thing, next mark, have []dsm.NFSRule) ([]dsm.NFSRule, error) {
	among := func(rules []dsm.NFSRule, client string) bool {
		return slices.ContainsFunc(rules, func(r dsm.NFSRule) bool { return r.Client == client })
	}
	ours, stay := ourRules(t.mark), ourRules(next)
	want := slices.DeleteFunc(slices.Clone(have), func(r dsm.NFSRule) bool { return among(ours, r.Client) && !among(stay, r.Client) })
	return want, b.setRules(ctx, t.share.Name, have, want)
}

// detachShare takes the rules of a node away, and forgets it.
func (b *Backend) detachShare(ctx context.Context, id backend.ID, node string) error {
	unlock, err := b.lock(ctx, "detach "+string(id), b.shareName(id))
	if err != nil {
		return err
	}
	defer unlock()
	t, err := b.findShare(ctx, id)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m := t.mark.without(node)
	if len(m.Admitted) == len(t.mark.Admitted) {
		return nil
	}
	if t.protocol() == smb {
		return b.detachUsers(ctx, t, m)
	}
	rules, err := b.nas.NFSRules(ctx, t.share.Name)
	if err != nil {
		return err
	}
	if err := b.setRules(ctx, t.share.Name, rules, append(theirRules(rules, t.mark), ourRules(m)...)); err != nil {
		return err
	}
	_, err = b.setShare(ctx, *t.share, m, int64(t.share.QuotaMB))
	return err
}

// admit is how a node is to be admitted. An address that has a rule of somebody else's is left to that.
func admit(m mark, theirs []dsm.NFSRule, r backend.AttachRequest) (admitted, error) {
	a := admitted{ReadOnly: r.ReadOnly}
	if len(m.Allow) > 0 {
		return a, nil
	}
	known := false
	for _, text := range r.Addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() {
			continue
		}
		known = true
		if client := ip.Unmap().String(); !slices.Contains(a.Addresses, client) &&
			!slices.ContainsFunc(theirs, func(rule dsm.NFSRule) bool { return rule.Client == client }) {
			a.Addresses = append(a.Addresses, client)
		}
	}
	if !known {
		return a, errs.E(errs.Unavailable, "no address is known of node %s (%v), so that it cannot be admitted to the share; set parameters[\"allow\"] or options[\"allow\"] to the networks of the nodes", r.Node, r.Addresses)
	}
	slices.Sort(a.Addresses)
	return a, nil
}

// theirRules are the rules that are not of nodes in the mark.
func theirRules(rules []dsm.NFSRule, m mark) []dsm.NFSRule {
	if len(m.Admitted) == 0 {
		return slices.Clone(rules)
	}
	ours := ourRules(m)
	return slices.DeleteFunc(slices.Clone(rules), func(rule dsm.NFSRule) bool {
		return slices.ContainsFunc(ours, func(o dsm.NFSRule) bool { return o.Client == rule.Client })
	})
}

// ourRules are those of all nodes in a mark.
func ourRules(m mark) []dsm.NFSRule {
	var rules []dsm.NFSRule
	readOnly := true
	for _, node := range m.nodes() {
		a := m.Admitted[node]
		readOnly = readOnly && a.ReadOnly
		for _, client := range a.Addresses {
			rules = append(rules, rule(client, a.ReadOnly, m.Sync))
		}
	}
	if len(m.Admitted) == 0 {
		return nil
	}
	for _, network := range m.Allow {
		r := rule(network, readOnly, m.Sync)
		r.Insecure = true // behind a NAT, which is what networks are given for, nodes come from any port
		rules = append(rules, r)
	}
	return rules
}

// rule serves a share to a client. Root stays root: the kubelet sets the owner of files (fsGroup) and containers run as root, which
// fails where root is mapped to somebody else. Ports above 1024 are refused: what is not root on a node cannot pose as somebody else.
func rule(client string, readOnly, sync bool) dsm.NFSRule {
	r := dsm.NFSRule{Client: client, Privilege: "rw", RootSquash: dsm.SquashNone, Async: dsm.Flag(!sync), Security: dsm.SecurityFlavor{Sys: true}}
	if readOnly {
		r.Privilege = "ro"
	}
	return r
}

// setRules replaces all rules of a share unless they are as they have to be, whatever the answer is.
func (b *Backend) setRules(ctx context.Context, share string, have, want []dsm.NFSRule) error {
	if slices.Equal(have, want) {
		return nil
	}
	refused := b.nas.SetNFSRules(ctx, share, want)
	if refused == nil {
		return nil
	}
	now, err := b.nas.NFSRules(ctx, share)
	if err == nil && slices.Equal(now, want) {
		return nil
	}
	return refused
}
