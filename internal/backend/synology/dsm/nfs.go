package dsm

import "context"

// NFS are the settings of the whole NAS. They are the administrator's: nothing here changes them.
type NFS struct {
	Enabled   Flag   `json:"enable_nfs"`
	EnabledV4 Flag   `json:"enable_nfs_v4"`
	Domain    string `json:"nfs_v4_domain"`
	Major     Number `json:"support_major_ver"` // the newest version that the NAS has: Major.Minor
	Minor     Number `json:"support_minor_ver"`
}

// NFS asks whether the NAS serves NFS, and which versions.
func (c *Client) NFS(ctx context.Context) (n NFS, err error) {
	err = c.read(ctx, call{nfsAPI, 2, "get"}, nil, &n)
	return n, err
}

// How the users of a client are mapped, in DSM's words.
const (
	SquashNone       = "root" // root stays root
	SquashRootAdmin  = "admin"
	SquashRootGuest  = "guest"
	SquashAllToAdmin = "all_admin"
	SquashAllToGuest = "all_guest"
)

// NFSRule is whom a share is served to, and how.
type NFSRule struct {
	Client     string         `json:"client"`    // an address, a network in CIDR, or *
	Privilege  string         `json:"privilege"` // "rw" or "ro"
	RootSquash string         `json:"root_squash"`
	Async      Flag           `json:"async"`
	Insecure   Flag           `json:"insecure"` // ports above 1024 too
	CrossMount Flag           `json:"crossmnt"`
	Security   SecurityFlavor `json:"security_flavor"`
}

// SecurityFlavor is how clients prove who they are.
type SecurityFlavor struct {
	Sys       Flag `json:"sys"`
	Kerberos  Flag `json:"kerberos"`
	Integrity Flag `json:"kerberos_integrity"`
	Privacy   Flag `json:"kerberos_privacy"`
}

// NFSRules lists whom a share is served to. errs.NotFound if there is no such share.
func (c *Client) NFSRules(ctx context.Context, share string) ([]NFSRule, error) {
	var data struct {
		Rule *[]NFSRule
	}
	what := call{nfsRulesAPI, 1, "load"}
	err := c.read(ctx, what, params{"share_name": share}, &data)
	return listed(what, data.Rule, err)
}

// SetNFSRules replaces all rules of a share.
func (c *Client) SetNFSRules(ctx context.Context, share string, rules []NFSRule) error {
	if rules == nil {
		rules = []NFSRule{}
	}
	return c.write(ctx, call{nfsRulesAPI, 1, "save"}, params{"share_name": share, "rule": rules}, nil)
}
