package csi

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/errs"
)

// page is the part of a list that a caller asks for. Lists are sorted by handle and a token says
// after which handle to go on, so it stays good when what it names is deleted meanwhile, nothing is
// shown twice, and nothing has to be remembered here between two calls.
type page struct {
	list  string // which list: a token of another one is not valid
	after string // a handle, or ""
	most  int    // 0: all
}

func pageOf(list string, maxEntries int32, token string) (page, error) {
	if maxEntries < 0 {
		return page{}, errs.E(errs.Invalid, "max_entries: %d is negative", maxEntries)
	}
	pg := page{list: list, most: int(maxEntries)}
	if token == "" {
		return pg, nil
	}
	text, _ := base64.RawURLEncoding.DecodeString(token) // what it is worth shows when it is made again
	after := strings.TrimPrefix(string(text), list+" ")
	if _, err := ParseHandle(after); err != nil || pg.token(after) != token {
		// Aborted is what the spec wants: begin anew.
		return page{}, errs.E(errs.Aborted, "starting_token: not one that this list gave; begin again without one")
	}
	pg.after = after
	return pg, nil
}

func (pg page) token(after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(pg.list + " " + after))
}

// cut sorts all and returns those of the page, with the token of the next page if there is one.
func cut[T any](pg page, all []T, handle func(T) string) (part []T, next string) {
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(handle(a), handle(b)) })
	first, found := slices.BinarySearchFunc(all, pg.after, func(t T, after string) int { return cmp.Compare(handle(t), after) })
	if found {
		first++
	}
	part = all[first:]
	if pg.most > 0 && len(part) > pg.most {
		part = part[:pg.most]
		next = pg.token(handle(part[pg.most-1]))
	}
	return part, next
}

// ListVolumes lists the volumes of all pools. If one pool cannot be asked there is no list: half of
// one looks like a whole one, and what is missing in it like deleted.
func (c *controller) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	pg, err := pageOf("volumes", r.GetMaxEntries(), r.GetStartingToken())
	if err != nil {
		return nil, err
	}
	all, err := c.allVolumes(ctx)
	if err != nil {
		return nil, err
	}
	part, next := cut(pg, all, (*csi.Volume).GetVolumeId)
	out := &csi.ListVolumesResponse{NextToken: next}
	for _, v := range part {
		out.Entries = append(out.Entries, &csi.ListVolumesResponse_Entry{Volume: v})
	}
	return out, nil
}

func (c *controller) allVolumes(ctx context.Context) ([]*csi.Volume, error) {
	var all []*csi.Volume
	for _, p := range c.pools.All() {
		for v, err := range p.List(ctx) {
			if err != nil {
				return nil, errs.E(errs.KindOf(err), "pool %s: %w", p.Name(), err)
			}
			all = append(all, volumeOf(p, v))
		}
	}
	return all, nil
}
