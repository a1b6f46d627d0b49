package dsmsim

import (
	"slices"
	"time"
)

const (
	blockWindow = 5 * time.Minute
	blockTime   = 24 * time.Hour
)

type session struct {
	token, account, ip string
	used               time.Time
}

// login gives a session. Every refusal of a password or of a code counts towards blocking the address.
func (r *request) login() answer {
	s, now := r.sim, r.sim.cfg.Now()
	if s.state.Blocked[r.ip].After(now) {
		return answer{code: 407}
	}
	name, password := r.form.Get("account"), r.form.Get("passwd")
	i := slices.IndexFunc(s.cfg.Accounts, func(a Account) bool { return a.Name == name })
	switch {
	case i < 0 || s.cfg.Accounts[i].Password != password:
		return r.failed(400)
	case s.cfg.Accounts[i].Disabled:
		return answer{code: 401}
	case s.cfg.Accounts[i].Guest:
		return answer{code: 402}
	}
	account := &s.cfg.Accounts[i]
	data := map[string]any{"account": name, "is_portal_port": false}
	if a := r.secondFactor(account, data); a.code != 0 {
		return a
	}
	delete(s.state.Failures, r.ip)
	sid, fresh := newUUID(), &session{account: name, ip: r.ip, used: now, token: newUUID()}
	s.sessions[sid] = fresh
	s.given = append(s.given, sid, fresh.token)
	data["sid"] = sid
	if r.form.Get("enable_syno_token") == "yes" {
		data["synotoken"] = fresh.token
	}
	return answer{data: data}
}

// secondFactor takes a device that is known, or a code, for which there may be a device's token.
func (r *request) secondFactor(a *Account, data map[string]any) answer {
	if a.OTP == "" {
		return answer{}
	}
	if id := r.form.Get("device_id"); id != "" && a.Devices[id] == r.form.Get("device_name") {
		return answer{}
	}
	switch r.form.Get("otp_code") {
	case "":
		return answer{code: 403, errors: map[string]any{"token": newUUID(), "types": []any{map[string]any{"type": "authenticator"}, map[string]any{"type": "otp"}}}}
	case a.OTP:
	default:
		return r.failed(404)
	}
	if r.form.Get("enable_device_token") == "yes" {
		id := newUUID()
		if a.Devices == nil {
			a.Devices = map[string]string{}
		}
		a.Devices[id] = r.form.Get("device_name")
		data[map[bool]string{true: "device_id", false: "did"}[r.version >= 7]] = id
		r.sim.given = append(r.sim.given, id)
	}
	return answer{}
}

// failed counts, and blocks the address from the next login on.
func (r *request) failed(code int) answer {
	s, now := r.sim, r.sim.cfg.Now()
	recent := slices.DeleteFunc(s.state.Failures[r.ip], func(t time.Time) bool { return now.Sub(t) > blockWindow })
	s.state.Failures[r.ip] = append(recent, now)
	if len(s.state.Failures[r.ip]) >= s.cfg.BlockAfter {
		s.state.Blocked[r.ip] = now.Add(blockTime)
	}
	return answer{code: code}
}

func (r *request) logout() answer {
	sid, _ := r.session()
	delete(r.sim.sessions, sid)
	return answer{}
}

// session finds a call's session: by the parameter _sid, which must not be quoted, or the cookie.
func (r *request) session() (string, *session) {
	sid := r.form.Get("_sid")
	if sid == "" || r.sim.cfg.NeedCookie && sid != r.cookie {
		sid = r.cookie
	}
	return sid, r.sim.sessions[sid]
}

// admit returns the code that refuses a call, 0 if it may go on.
func (s *Sim) admit(r *request) int {
	sid, session := r.session()
	now := s.cfg.Now()
	switch {
	case session == nil:
		return 119
	case now.Sub(session.used) > s.cfg.IdleTimeout:
		delete(s.sessions, sid)
		return 106
	case !s.cfg.AnyAddress && session.ip != r.ip: // assumed: the code is not known
		return 119
	case s.cfg.CSRF && r.form.Get("SynoToken") != session.token && r.token != session.token:
		return 105
	}
	session.used = now
	return 0
}
