package crash

import (
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
	k := &killer{order: o}
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
		if err := p.Steps[n].Do(t.Context(), d); err != nil {
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

// killer is a seam that kills its process at one effect.
type killer struct {
	order   order
	mu      sync.Mutex
	effects []host.Effect
}

// halfway is how long a program runs before the process is killed in the middle of it.
const halfway = 3 * time.Millisecond

func (k *killer) seam(e host.Effect, do func() error) error {
	if e.Reads {
		return do()
	}
	k.mu.Lock()
	k.effects = append(k.effects, e)
	here := len(k.effects) == k.order.At
	k.mu.Unlock()
	if !here {
		return do()
	}
	if k.order.Phase == "during" { // one that is quicker is killed after it
		time.AfterFunc(halfway, kill)
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
