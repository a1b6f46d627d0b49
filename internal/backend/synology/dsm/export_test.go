package dsm

import "time"

// SetTimeout changes the limit of a client that has logged in, for tests of calls that are never answered.
func (c *Client) SetTimeout(d time.Duration) { c.timeout = d }
