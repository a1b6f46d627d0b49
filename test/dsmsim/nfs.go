package dsmsim

import "slices"

// nfsSettings are those of the whole NAS.
type nfsSettings map[string]any

func newNFSSettings() nfsSettings {
	return nfsSettings{"enable_nfs": true, "enable_nfs_v4": true, "nfs_v4_domain": "", "support_major_ver": 4, "support_minor_ver": 1,
		"enabled_minor_ver": 1, "read_size": 8192, "write_size": 8192, "unix_pri_enable": true, "support_encrypt_share": 1}
}

func (r *request) nfsGet() answer { return answer{data: r.sim.state.NFS} }

// nfsSet changes what is given. DSM 7.3 wants all settings or none.
func (r *request) nfsSet() answer {
	for _, name := range []string{"enable_nfs", "enable_nfs_v4", "nfs_v4_domain", "read_size", "write_size", "unix_pri_enable"} {
		if r.sim.cfg.WholeNFS && !r.has(name) {
			return answer{code: 2001}
		}
	}
	for _, name := range []string{"enable_nfs", "enable_nfs_v4"} {
		if r.has(name) {
			r.sim.state.NFS[name] = r.truth(name, false)
		}
	}
	return answer{}
}

const (
	codeBadRule      = 2301
	codeNoRulesShare = 2370
)

// ruled finds the share of a rule set; the parameter is share_name, and not name as everywhere else.
func (r *request) ruled() (*share, int) {
	if !r.has("share_name") {
		return nil, codeBadRule
	}
	f := r.share("share_name")
	if f == nil {
		return nil, codeNoRulesShare
	}
	return f, 0
}

func (r *request) rulesLoad() answer {
	f, code := r.ruled()
	if code != 0 {
		return answer{code: code}
	}
	rules := f.Rules
	if rules == nil {
		rules = []map[string]any{}
	}
	return answer{data: map[string]any{"share_name": f.Name, "rule": rules}}
}

// rulesSave replaces the whole set.
func (r *request) rulesSave() answer {
	f, code := r.ruled()
	if code != 0 {
		return answer{code: code}
	}
	var rules []map[string]any
	if !r.decode("rule", &rules) || slices.ContainsFunc(rules, badRule) {
		return answer{code: codeBadRule}
	}
	f.Rules = rules
	if err := r.sim.plane.SetFolder(r.sim.folder(f)); err != nil {
		return broken(err)
	}
	return answer{}
}

// badRule: each field has to be there, and of the words that DSM knows.
func badRule(rule map[string]any) bool {
	for _, name := range []string{"client", "privilege", "root_squash", "async", "insecure", "crossmnt", "security_flavor"} {
		if _, ok := rule[name]; !ok {
			return true
		}
	}
	squash, _ := rule["root_squash"].(string)
	privilege, _ := rule["privilege"].(string)
	client, _ := rule["client"].(string)
	return client == "" || !slices.Contains([]string{"rw", "ro"}, privilege) ||
		!slices.Contains([]string{"root", "admin", "guest", "all_admin", "all_guest"}, squash)
}

// SetNFS switches the service on or off, as an administrator does.
func (s *Sim) SetNFS(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.NFS["enable_nfs"] = on
	return s.state.save(s.cfg.Dir)
}
