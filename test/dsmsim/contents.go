package dsmsim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Contents is what the NAS whose state is in a directory has, one line for each thing: LUNs and shares with their
// descriptions, snapshots, and targets with how many LUNs are in them.
func Contents(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
		return nil, errors.Join(errors.New("no NAS has its state there"), err)
	}
	s, err := loadState(dir, nil)
	if err != nil {
		return nil, err
	}
	return s.contents(time.Now()), nil
}

func (s *state) contents(now time.Time) (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	there := map[string]bool{}
	for _, l := range s.LUNs {
		if there[l.UUID] = l.GoneAt.IsZero() || now.Before(l.GoneAt); there[l.UUID] { // nobody may have asked since it went
			add("LUN %s: %s", l.Name, l.Description)
		}
	}
	for _, p := range s.Snapshots {
		if there[p.LUN] {
			add("snapshot %s: %s", p.Name, p.Description)
		}
	}
	for _, f := range s.Shares {
		add("share %s: %s", f.Name, f.Description)
		for _, p := range f.Snapshots {
			add("snapshot %s of share %s: %s", p.Time, f.Name, p.Description)
		}
	}
	for _, t := range s.Targets {
		add("target %s: %d LUNs", t.Name, len(t.Mapped))
	}
	return all
}
