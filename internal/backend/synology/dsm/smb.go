package dsm

import "context"

// SMB are the settings of the whole NAS. They are the administrator's: nothing here changes them.
type SMB struct {
	Enabled Flag `json:"enable_samba"`
}

// SMB asks whether the NAS serves SMB.
func (c *Client) SMB(ctx context.Context) (s SMB, err error) {
	err = c.read(ctx, call{smbAPI, 3, "get"}, nil, &s)
	return s, err
}
