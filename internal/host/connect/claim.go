package connect

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// claim is what says that a target's records and sessions on this node are ours. It is written before there
// are any, and removed after all are gone. What has no claim was made by somebody else, and is never ended here.
type claim struct {
	IQN string `json:"iqn"`
	// LoggingIn is set while a login is under way. If it is found set, the process that set it is gone, and iscsid
	// may still be at that login.
	LoggingIn bool `json:"loggingIn,omitempty"`
}

// claimSuffix is that of the claims' files; maxClaim bounds one in bytes.
const (
	claimSuffix = ".iscsi"
	maxClaim    = 4 << 10
)

func (c *Connector) claimPath(iqn string) string {
	sum := sha256.Sum256([]byte(iqn))
	return filepath.Join(c.opts.StateDir, hex.EncodeToString(sum[:12])+claimSuffix)
}

// claimed returns the claim on a target, or nil if there is none.
func (c *Connector) claimed(iqn string) (*claim, error) {
	k, err := c.readClaim(c.claimPath(iqn))
	if err == nil && k != nil && k.IQN != iqn {
		err = errs.E(errs.Internal, "%s is of iSCSI target %s, not of %s", c.claimPath(iqn), k.IQN, iqn)
	}
	return k, err
}

func (c *Connector) readClaim(path string) (*claim, error) {
	text, err := c.host.ReadFile("claim.read", path, maxClaim)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "iSCSI claim: %w", err)
	}
	var k claim
	if err := json.Unmarshal(text, &k); err != nil || k.IQN == "" {
		return nil, errs.E(errs.Internal, "%s is damaged; remove it, and log out of its target by hand: %v", path, err)
	}
	return &k, nil
}

func (c *Connector) saveClaim(op string, k claim) error {
	if old, err := c.claimed(k.IQN); err == nil && old != nil && *old == k {
		return nil
	}
	text, err := json.Marshal(k)
	if err != nil {
		return errs.E(errs.Internal, "iSCSI claim: %w", err)
	}
	if err := c.host.WriteFile(op, c.claimPath(k.IQN), append(text, '\n'), 0o600); err != nil {
		return errs.E(errs.Unavailable, "iSCSI claim: %w", err)
	}
	return nil
}

// dropClaim removes a claim, and what writing it left that was cut short.
func (c *Connector) dropClaim(iqn string) error {
	path := c.claimPath(iqn)
	for _, p := range []string{path + ".tmp", path} {
		if _, err := os.Lstat(p); err != nil {
			continue
		}
		if err := c.host.Remove("claim.remove", p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errs.E(errs.Unavailable, "iSCSI claim: %w", err)
		}
	}
	return nil
}

// claims returns all that can be read; those that cannot be are in the error.
func (c *Connector) claims() (all []claim, err error) {
	entries, err := c.host.ReadDir("claim.list", c.opts.StateDir)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "iSCSI claims: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(c.opts.StateDir, e.Name())
		if strings.HasSuffix(path, claimSuffix+".tmp") {
			err = errors.Join(err, c.cutShort(path))
		}
		if !strings.HasSuffix(path, claimSuffix) {
			continue
		}
		k, readErr := c.readClaim(path)
		err = errors.Join(err, readErr)
		if k != nil {
			all = append(all, *k)
		}
	}
	return all, err
}

// cutShort removes a claim that was never written to its end, if none of its name is there: nothing was done yet.
func (c *Connector) cutShort(path string) error {
	if _, err := os.Lstat(strings.TrimSuffix(path, ".tmp")); err == nil {
		return nil // the next writing replaces it
	}
	err := c.host.Remove("claim.remove", path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
