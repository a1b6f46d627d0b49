package scheduler

import (
	"bytes"
	"sync"
)

// knownNodes remembers Node objects as they came, since most are the same for thousands of pods. Where the bytes of
// one that was read before are met again, it has the same name and the same end, and to compare them is several
// times faster than to look for both. It is safe for concurrent use; the zero value knows none.
type knownNodes struct {
	mu    sync.RWMutex
	texts map[string]string // by name
	bytes int               // of all texts
}

// maxKnown is how many bytes are remembered: of 10,000 nodes with few images. With more all are forgotten.
const maxKnown = 64 << 20

// nodeHead is how a node begins that kube-scheduler writes. Others are not remembered.
const nodeHead = `{"metadata":{"name":"`

// at returns the node at the beginning of b if it is known as it is there.
func (k *knownNodes) at(b []byte) (name string, length int, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(nodeHead))
	if !ok {
		return "", 0, false
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return "", 0, false
	}
	k.mu.RLock()
	text, ok := k.texts[string(rest[:end])]
	k.mu.RUnlock()
	if !ok || len(b) < len(text) || string(b[:len(text)]) != text {
		return "", 0, false
	}
	return text[len(nodeHead) : len(nodeHead)+end], len(text), true
}

// add remembers a node that was read whole.
func (k *knownNodes) add(name string, text []byte) {
	if !bytes.HasPrefix(text, []byte(nodeHead+name+`"`)) {
		return // the name is elsewhere, or in other words
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes > maxKnown || k.texts == nil {
		k.texts, k.bytes = map[string]string{}, 0
	}
	k.bytes += len(text) - len(k.texts[name])
	k.texts[name] = string(text)
}
