package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// event is one line of the lab's events file: what the processes inside the
// namespaces have to tell those outside.
type event struct {
	Time    time.Time `json:"time"`
	Node    string    `json:"node,omitempty"` // empty: the control plane
	Name    string    `json:"name"`           // the component
	Message string    `json:"message"`
	Failed  bool      `json:"failed,omitempty"`
	Log     string    `json:"log,omitempty"` // the end of its log
}

// supervisor starts long-running components and reports each that ends. None
// is restarted: in a lab, an etcd that died is a finding, not a nuisance.
type supervisor struct {
	node   string
	logs   string
	env    []string
	events io.Writer
	mu     sync.Mutex
}

// start runs a component with its output in a log file of its name.
func (s *supervisor) start(name string, args ...string) error {
	file := filepath.Join(s.logs, name+".log")
	log, err := os.Create(file)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), s.env...)
	if err := cmd.Start(); err != nil {
		s.report(event{Name: name, Failed: true, Message: err.Error()})
		return err
	}
	go func() {
		err := cmd.Wait()
		message := "exited with status 0"
		if err != nil {
			message = err.Error()
		}
		s.report(event{Name: name, Failed: true, Message: message, Log: tail(file, 25)})
	}()
	return nil
}

// report appends one event. A line is one write, so that the lines of several
// processes do not mix.
func (s *supervisor) report(e event) {
	e.Time, e.Node = time.Now(), s.node
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.events.Write(append(line, '\n')); err != nil {
		fmt.Fprintf(os.Stderr, "reporting %s: %v\n", line, err)
	}
}

// tail is the end of a log file.
func tail(file string, lines int) string {
	const most = 16 << 10
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(data), lines)
}
