package dsm

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Versions of the login. DSM 7.3 lets only sessions of version 7 change some settings; below 6
// there is no token against cross-site requests.
const (
	oldestLogin = 6
	newestLogin = 7
)

// login asks a NAS for its APIs, then for a session. The first also tells whether DSM is there before
// a password is sent.
func (c *Client) login(ctx context.Context, creds Credentials) (*session, error) {
	s, _, err := c.authenticate(ctx, creds, params{})
	return s, err
}

// Enroll logs in with a one-time code, and returns the token by which DSM will know this device
// without one: put it into Credentials.Device, with the name. The credentials of the client are not
// changed. A wrong code counts as a failed login, so it is for people to try.
func (c *Client) Enroll(ctx context.Context, creds Credentials, code Secret) (Secret, error) {
	s, device, err := c.authenticate(ctx, Credentials{Account: creds.Account, Password: creds.Password}, params{
		"otp_code": code, "enable_device_token": "yes", "device_name": creds.DeviceName,
	})
	if err != nil {
		return Secret{}, err
	}
	if device.Reveal() == "" {
		return Secret{}, errs.E(errs.Unavailable, "%s.login: the code was taken, but there is no device token in the answer", authAPI)
	}
	// The session has done its work; if it cannot be ended now it ends when it has been idle for long enough.
	_, _ = c.ask(ctx, s, call{authAPI, 1, "logout"}, nil)
	return device, nil
}

func (c *Client) authenticate(ctx context.Context, creds Credentials, p params) (*session, Secret, error) {
	found, err := c.info(ctx)
	if err != nil {
		return nil, Secret{}, err
	}
	what := call{authAPI, newestLogin, "login"}
	if max := found[authAPI].MaxVersion; max < newestLogin {
		what.version = oldestLogin
	}
	info, err := found.find(what)
	if err != nil {
		return nil, Secret{}, err
	}
	form, err := creds.params(p).encode(false)
	if err != nil {
		return nil, Secret{}, errs.E(errs.Internal, "%s.login: %w", authAPI, err)
	}
	a, err := c.send(ctx, info.Path, nil, what, form)
	var l *lost
	if errors.As(err, &l) {
		err = errs.E(errs.KindOf(err), "%w", &silentLogin{err})
	}
	if err != nil {
		return nil, Secret{}, err
	}
	return parseLogin(what, a, found)
}

// params adds what says who logs in. No API of DSM's logins takes JSON.
func (c Credentials) params(p params) params {
	p["account"], p["passwd"] = c.Account, c.Password
	p["session"], p["format"], p["enable_syno_token"] = "dsm", "sid", "yes"
	if c.Device.Reveal() != "" {
		p["device_id"], p["device_name"] = c.Device, c.DeviceName
	}
	return p
}

// parseLogin reads a session, and the device's token if one was asked for; version 7 calls it otherwise.
func parseLogin(what call, a answer, found apis) (*session, Secret, error) {
	var data struct {
		SID       string
		SynoToken string
		DID       string
		DeviceID  string `json:"device_id"`
	}
	if a.empty() || json.Unmarshal(a.data, &data) != nil || data.SID == "" {
		return nil, Secret{}, errs.E(errs.Internal, "%s.%s: success, but no session in the answer", what.api, what.method)
	}
	if data.DID == "" {
		data.DID = data.DeviceID
	}
	return &session{NewSecret(data.SID), NewSecret(data.SynoToken), found}, NewSecret(data.DID), nil
}
