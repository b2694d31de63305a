package openssl

import (
	"io"
	"sync"
)

// keyLog hands the secrets of connections to the user's writer. They come under a lock of
// libevent, where no user's code may run, so it is done elsewhere.
type keyLog struct {
	w io.Writer

	mu      sync.Mutex
	lines   [][]byte
	writing bool
}

func newKeyLog(w io.Writer) *keyLog { return &keyLog{w: w} }

func (k *keyLog) add(line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, []byte(line+"\n"))
	if !k.writing {
		k.writing = true
		go k.write()
	}
}

func (k *keyLog) write() {
	for {
		k.mu.Lock()
		lines := k.lines
		k.lines = nil
		if len(lines) == 0 {
			k.writing = false
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		for _, line := range lines {
			_, _ = k.w.Write(line)
		}
	}
}
