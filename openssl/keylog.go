// SPDX-License-Identifier: BSD-3-Clause

package openssl

import (
	"io"
	"sync"
)

// keyLog passes the secrets of connections to the user's writer. OpenSSL hands them over while
// a lock of libevent is held, and the user's code must not run then. So a goroutine writes them.
type keyLog struct {
	w io.Writer

	mu      sync.Mutex
	lines   [][]byte // not written yet
	writing bool     // the goroutine runs
}

func newKeyLog(w io.Writer) *keyLog { return &keyLog{w: w} }

func (k *keyLog) add(line string) {
	if k.w == nil { // GetConfigForClient has changed the context meanwhile
		return
	}
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
