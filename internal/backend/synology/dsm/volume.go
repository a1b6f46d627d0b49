package dsm

import (
	"context"
	"slices"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Volume is a volume of the NAS, in which LUNs and shares are.
type Volume struct {
	Path        string `json:"volume_path"` // "/volume1"
	DisplayName string `json:"display_name"`
	FileSystem  string `json:"fs_type"` // "btrfs" or "ext4"
	Status      string // "normal"
	Container   string // "internal"
	Location    string // "internal"
	ReadOnly    Flag   `json:"readonly"`
	Crashed     Flag
	// Free and Total are bytes. Clones share blocks, so that Free is the only true figure of room.
	Free  Number `json:"size_free_byte"`
	Total Number `json:"size_total_byte"`
}

// Volumes lists all volumes.
func (c *Client) Volumes(ctx context.Context) ([]Volume, error) {
	var data struct{ Volumes *[]Volume }
	err := c.read(ctx, call{volumeAPI, 1, "list"}, params{"offset": 0, "limit": -1, "location": "all"}, &data)
	return listed(call{volumeAPI, 1, "list"}, data.Volumes, err)
}

// Volume looks a volume up by its path. errs.NotFound if there is none.
func (c *Client) Volume(ctx context.Context, path string) (Volume, error) {
	var data struct{ Volume Volume }
	err := c.read(ctx, call{volumeAPI, 1, "get"}, params{"volume_path": path}, &data)
	switch {
	case err == nil && data.Volume.Path == path:
		return data.Volume, nil
	case err != nil && CodeOf(err) != codeNoVolume:
		return Volume{}, err
	}
	// 117 also means "busy", and a path that cannot be one gets a success without a volume: the list knows.
	all, err := c.Volumes(ctx)
	if err != nil {
		return Volume{}, err
	}
	return pick(all, func(v Volume) bool { return v.Path == path }, "there is no volume %q", path)
}

// pick returns the one of a complete list. errs.NotFound if it is not in it.
func pick[T any](all []T, is func(T) bool, absent string, key string) (T, error) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], nil
	}
	var none T
	return none, errs.E(errs.NotFound, absent, key)
}

// listed returns a list that has to be in an answer: one without it does not say that there is nothing.
func listed[T any](what call, list *[]T, err error) ([]T, error) {
	switch {
	case err != nil:
		return nil, err
	case list == nil:
		return nil, errs.E(errs.Internal, "%s.%s: success, but no list in the answer", what.api, what.method)
	}
	return *list, nil
}
