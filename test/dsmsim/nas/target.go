package nas

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/lio"
)

// SetTarget serves images over iSCSI.
func (p *Plane) SetTarget(e dsmsim.Export) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := lio.Target{IQN: e.IQN, Enabled: e.Enabled, User: e.User, Password: e.Password, MutualUser: e.MutualUser, MutualPassword: e.MutualPassword}
	for _, l := range e.LUNs {
		file, err := p.image(l.Image)
		if err != nil {
			return err
		}
		device, err := p.attach(file)
		if err != nil {
			return err
		}
		t.LUNs = append(t.LUNs, lio.LUN{Name: l.Image, Index: l.Index, Device: device, Discard: l.Discard,
			Identity: lio.Identity{Vendor: dsmsim.Vendor, Product: dsmsim.Product, Revision: dsmsim.Revision, Serial: l.Serial}})
	}
	if err := p.lio.Set(t); err != nil {
		return err
	}
	p.targets[e.IQN] = e
	return errors.Join(p.release(), p.limit(e))
}

// RemoveTarget ends its sessions.
func (p *Plane) RemoveTarget(iqn string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.lio.Remove(iqn); err != nil {
		return err
	}
	delete(p.targets, iqn)
	return p.release()
}

// Settle removes the targets and the shares of SMB that were not said, and what is in none.
func (p *Plane) Settle() error {
	if err := p.smb.Settle(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	there, err := p.lio.Targets()
	if err != nil {
		return err
	}
	for _, iqn := range there {
		if _, said := p.targets[iqn]; said {
			continue
		}
		if err := p.lio.Remove(iqn); err != nil {
			return err
		}
	}
	return p.release()
}

// Sessions returns who is logged in, as the kernel has it.
func (p *Plane) Sessions(iqn string) ([]dsmsim.Session, error) {
	initiators, err := p.lio.Sessions(iqn)
	if err != nil || len(initiators) == 0 {
		return nil, err
	}
	ip, err := onlyPeer("/proc/net/tcp")
	sessions := make([]dsmsim.Session, len(initiators))
	for i, name := range initiators {
		sessions[i] = dsmsim.Session{IQN: name, IP: ip}
	}
	return sessions, err
}

// limit keeps initiators out of a target that has as many as it takes.
func (p *Plane) limit(e dsmsim.Export) error {
	if e.MaxSessions == 0 {
		return nil // it admits anybody since it was set
	}
	initiators, err := p.lio.Sessions(e.IQN)
	if err != nil {
		return err
	}
	return p.lio.Admit(e.IQN, len(initiators) < e.MaxSessions)
}

// watchPeriod is for how long two initiators may get into a target that takes one: LIO itself has no such limit.
const watchPeriod = 100 * time.Millisecond

// watchSessions holds targets to their limits.
func (p *Plane) watchSessions(ctx context.Context) {
	defer close(p.watched)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPeriod):
		}
		p.mu.Lock()
		for _, e := range p.targets {
			_ = p.limit(e) // the next round tries again
		}
		p.mu.Unlock()
	}
}

// onlyPeer returns the address of the one machine that is connected to a portal, "" if there are several or none: LIO
// does not say which session of a target comes from where.
func onlyPeer(table string) (string, error) {
	text, err := os.ReadFile(table)
	if err != nil {
		return "", err
	}
	found := ""
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasSuffix(fields[1], portalPort) || fields[3] != established {
			continue
		}
		peer, ok := parsePeer(fields[2])
		if !ok || found != "" && found != peer {
			return "", nil
		}
		found = peer
	}
	return found, nil
}
