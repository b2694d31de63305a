// SPDX-License-Identifier: BSD-3-Clause

package openssl

import (
	"io"
	"sync"

	"github.com/go-libevent/libevent"
)

// keyLog passes the secrets of connections to the user's writer. OpenSSL hands them over while
// a lock of libevent is held, and the user's code must not run then. So a goroutine writes them.
type keyLog struct {
	w io.Writer

	mu      sync.Mutex
	lines   []keyLine // not written yet
	writing bool      // the goroutine runs
}

// keyLine is a secret of a connection on a base.
type keyLine struct {
	text string
	base *libevent.Base
}

func newKeyLog(w io.Writer) *keyLog { return &keyLog{w: w} }

func (k *keyLog) add(text string, base *libevent.Base) {
	if k.w == nil { // GetConfigForClient has changed the context meanwhile
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, keyLine{text + "\n", base})
	if !k.writing {
		k.writing = true
		go k.write()
	}
}

// next takes a line. If there is none, the goroutine ends.
func (k *keyLog) next() (line keyLine, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lines) == 0 {
		k.lines, k.writing = nil, false
		return keyLine{}, false
	}
	line, k.lines = k.lines[0], k.lines[1:]
	return line, true
}

func (k *keyLog) write() {
	line, ok := k.next()
	if !ok {
		return
	}
	defer func() { // also if the writer has ended the goroutine
		if p := recover(); p != nil {
			raise(line.base, p)
		}
		go k.write()
	}()
	_, _ = k.w.Write([]byte(line.text))
}

// raise has a panic come out where those of closures come out. If there is no loop any more, it ends the program.
func raise(base *libevent.Base, p any) {
	if base.Post(func() { panic(p) }) != nil {
		panic(p)
	}
}
