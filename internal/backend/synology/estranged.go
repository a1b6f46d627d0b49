package synology

import (
	"context"
	"fmt"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// A volume whose name or description somebody edited is none of ours any more, and is not used and not deleted. But nodes that
// have it still have it, so a detach looks for it by what is left: the name or the description.

// estrangedLUN is what is left of a volume that is a LUN, nil if nothing is.
func (b *Backend) estrangedLUN(ctx context.Context, id backend.ID) (*dsm.LUN, error) {
	luns, err := b.nas.LUNs(ctx)
	if err != nil && !b.hasNoLUNs(err) {
		return nil, err
	}
	for _, l := range luns {
		if m, ours := b.owns(l.Description); l.Name == b.lunName(id) || ours && m.ID == string(id) {
			return &l, nil
		}
	}
	return nil, nil
}

// estrangedShare refuses to say that a node is out of what is left of a volume that is a share, as long as that is served:
// to whom is known by name and description together only.
func (b *Backend) estrangedShare(ctx context.Context, id backend.ID) error {
	shares, err := b.nas.Shares(ctx)
	if err != nil {
		return err
	}
	for _, s := range shares {
		m, marked := parseMark(s.Description)
		_, ours := b.owns(s.Description)
		if !(s.Name == b.shareName(id) && !marked) && !(ours && m.ID == string(id)) {
			continue
		}
		rules, users, err := b.served(ctx, s.Name)
		edited := fmt.Sprintf("share %s was volume %s until somebody edited its name, which was %s, or its description", s.Name, id, b.shareName(id))
		switch {
		case err != nil:
			return err
		case len(rules) > 0:
			return errs.E(errs.Unavailable, "%s: which of its NFS rules are of which node is not known any more; "+
				"put that back, or remove its NFS rules in Control Panel, Shared Folder", edited)
		case len(users) > 0:
			return errs.E(errs.Unavailable, "%s: whether nodes use it as %s, who may, is not known any more; "+
				"put that back, or take their permission for it away in Control Panel, Shared Folder", edited, strings.Join(users, ", "))
		}
	}
	return nil
}

// served is to whom a share is, by NFS and by SMB.
func (b *Backend) served(ctx context.Context, share string) (rules []dsm.NFSRule, users []string, err error) {
	if rules, err = b.nas.NFSRules(ctx, share); err != nil {
		return nil, nil, err
	}
	all, err := b.nas.Permissions(ctx, share, dsm.LocalUsers)
	return rules, mayUse(all), err
}
