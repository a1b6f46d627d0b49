package crash

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

const (
	effectsFile  = "effects.json" // what the run without a crash did
	progressFile = "progress"     // how many calls were answered
)

// obey is the life of a process of a run.
func obey(t *testing.T, p Path, text string) {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	k := &killer{order: o, step: -1}
	h := host.New()
	h.Seam = k.seam
	d, err := p.Open(t.Context(), h, o.Dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	answered, err := readProgress(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for n := answered; n < len(p.Steps); n++ {
		k.enter(n)
		if err := call(t, p.Steps[n], d); err != nil {
			t.Fatalf("%s: %v", p.Steps[n].Name, err)
		}
		if err := os.WriteFile(filepath.Join(o.Dir, progressFile), []byte(strconv.Itoa(n+1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(k.effects)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, effectsFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// call makes a call, and again a few times if it is told to, as an orchestrator would: also as long as a program that ended with the
// process before has something open.
func call(t *testing.T, s Step, d Driver) (err error) {
	for range 10 {
		err = s.Do(t.Context(), d)
		if !errs.Is(err, errs.Busy) && !errs.Is(err, errs.Aborted) && !errs.Is(err, errs.InUse) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

func readProgress(dir string) (int, error) {
	data, err := os.ReadFile(filepath.Join(dir, progressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(data))
}

// effect is one that a path had, and the step it was in; -1 is the start of the driver.
type effect struct {
	Effect host.Effect
	Step   int
}

// killer is a seam that kills its process at one effect.
type killer struct {
	order   order
	mu      sync.Mutex
	step    int
	idle    bool // what is done now does not count
	effects []effect
}

func (k *killer) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = false
}

func (k *killer) enter(step int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step = step
}

// halfway is how long a program runs before the process is killed in the middle of it.
const halfway = 3 * time.Millisecond

func (k *killer) seam(e host.Effect, do func() error) error {
	if e.Reads {
		return do()
	}
	k.mu.Lock()
	if k.idle {
		k.mu.Unlock()
		return do()
	}
	k.effects = append(k.effects, effect{e, k.step})
	here := len(k.effects) == k.order.At
	k.mu.Unlock()
	if !here {
		return do()
	}
	if k.order.Phase == "during" { // one that is quicker is killed after it
		time.AfterFunc(cmp.Or(k.order.Delay, halfway), kill)
	}
	if k.order.Phase != "before" {
		_ = do()
	}
	kill()
	panic("alive")
}

// kill ends the process as a power cut would end it: nothing is flushed, nothing deferred is run.
func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail for oneself
	select {}
}
