package synology

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// A permission is a user's and not a node's: by SMB a share is open as long as some node has it, and to all who know a password of
// its users. When the last one goes they are shut out (DSM's "No Access", which goes before the rights of a group).

// attachUsers gives the users of a share their permission. As with rules, the mark comes first.
func (b *Backend) attachUsers(ctx context.Context, t thing, r backend.AttachRequest) error {
	if m := t.mark.with(r.Node, admitted{ReadOnly: r.ReadOnly}); !reflect.DeepEqual(m, t.mark) {
		if _, err := b.setShare(ctx, *t.share, m, int64(t.share.QuotaMB)); err != nil {
			return err
		}
		t.mark = m
	}
	return b.permit(ctx, t.share.Name, t.mark)
}

// detachUsers takes it away, unless other nodes in the mark m have the share, and notes that.
func (b *Backend) detachUsers(ctx context.Context, t thing, m mark) error {
	if err := b.permit(ctx, t.share.Name, m); err != nil {
		return err
	}
	_, err := b.setShare(ctx, *t.share, m, int64(t.share.QuotaMB))
	return err
}

// permit sets what the users in a mark may do to what the nodes in it need, and looks whether it is so: a user that DSM does not
// have it passes over.
func (b *Backend) permit(ctx context.Context, share string, m mark) error {
	want := m.permissions()
	have, err := b.nas.Permissions(ctx, share, dsm.LocalUsers)
	if err != nil {
		return err
	}
	missing := withoutAll(want, have)
	if len(missing) == 0 {
		return nil
	}
	refused := b.nas.SetPermissions(ctx, share, dsm.LocalUsers, missing)
	have, err = b.nas.Permissions(ctx, share, dsm.LocalUsers)
	if err != nil {
		return err
	}
	if missing = withoutAll(missing, have); len(missing) == 0 {
		return nil
	}
	name := missing[0].Name
	known := slices.ContainsFunc(have, func(p dsm.Listed) bool { return strings.EqualFold(p.Name, name) })
	switch {
	case !known && bool(missing[0].Deny):
		return nil // who is not there has no permission
	case refused != nil:
		return refused
	case !known:
		return errs.E(errs.Invalid, "parameters[\"users\"], options[\"users\"]: DSM has no user %s of its own; make one in Control Panel, User & Group", name)
	}
	return errs.E(errs.Aborted, "share %s: the permission of user %s was changed by somebody else at the same time; call again", share, name)
}

// permissions are what users may do as long as the nodes in a mark have the share.
func (m mark) permissions() []dsm.Permission {
	nodes := m.nodes()
	readOnly := !slices.ContainsFunc(nodes, func(node string) bool { return !m.Admitted[node].ReadOnly })
	var all []dsm.Permission
	for _, name := range m.Users {
		all = append(all, dsm.Permission{
			Name: name, Deny: dsm.Flag(len(nodes) == 0), ReadOnly: dsm.Flag(len(nodes) > 0 && readOnly), Writable: dsm.Flag(!readOnly),
		})
	}
	return all
}

// withoutAll are the permissions of want that are not in have. Names of users have no case.
func withoutAll(want []dsm.Permission, have []dsm.Listed) []dsm.Permission {
	return slices.DeleteFunc(slices.Clone(want), func(w dsm.Permission) bool {
		return slices.ContainsFunc(have, func(h dsm.Listed) bool {
			same := w
			same.Name = h.Name
			return strings.EqualFold(w.Name, h.Name) && h.Permission == same
		})
	})
}

// mayUse are the users who may use a share, by themselves or by a group. Administrators may use all, and say nothing of nodes.
func mayUse(users []dsm.Listed) (names []string) {
	for _, u := range users {
		none := bool(u.Deny) || u.Inherit == "na"
		some := bool(u.Writable) || bool(u.ReadOnly) || bool(u.Custom) || slices.Contains([]string{"rw", "ro", "cu"}, u.Inherit)
		if some && !none && !bool(u.Admin) {
			names = append(names, u.Name)
		}
	}
	return names
}
