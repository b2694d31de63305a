// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-libevent/libevent/internal/testutil"
)

// period is a prime, so that a stream does not repeat itself at the sizes of chunks and records.
const period = 1<<20 - 3

// noise has the period twice, so that each piece of a stream is one slice of it.
var noise = func() []byte {
	p := testutil.Noise(period)
	return append(p, p...)
}()

// stream is one direction of a connection: an endless sequence of bytes, each of which follows from
// its offset. A writer appends the next bytes, and a reader knows which ones have to come.
type stream struct {
	phase int

	// wmu is held from the look at sent to the end of the write, and rmu from the look at got
	// to the end of the read. A read that puts bytes back makes got smaller.
	wmu, rmu  sync.Mutex
	sent, got atomic.Int64
	moves     atomic.Int64 // reads, and bytes that were put back: they count as progress, too

	held  atomic.Int64 // bytes that a filter function keeps to itself
	fin   atomic.Bool  // the writer has ended the stream, and all of it is to arrive
	ended atomic.Bool  // the reader was told of the end
	cause atomic.Pointer[string]
}

// at returns the n bytes from an offset on.
func (s *stream) at(offset int64, n int) []byte {
	from := (int64(s.phase) + offset) % period
	return noise[from : from+int64(n) : from+int64(n)]
}

// cut says that from now on bytes may be missing at the end of the stream, and why.
func (s *stream) cut(why string) { s.cause.CompareAndSwap(nil, &why) }

// whole reports whether all bytes of the stream have to arrive.
func (s *stream) whole() bool { return s.cause.Load() == nil }

// check compares the bytes that have come next. The caller holds rmu.
func (s *stream) check(p []byte) error {
	at := s.got.Load()
	if wrong := s.differs(at, p); wrong >= 0 {
		return fmt.Errorf("byte %d of the stream is wrong, byte %d of %d that came together; %s",
			at+int64(wrong), wrong, len(p), s.explain(at+int64(wrong), p[wrong:]))
	}
	s.got.Store(at + int64(len(p)))
	s.moves.Add(1)
	return nil
}

// differs returns where p is not what the stream has at an offset, or -1.
func (s *stream) differs(offset int64, p []byte) int {
	for done := 0; done < len(p); {
		n := min(len(p)-done, period)
		want := s.at(offset+int64(done), n)
		if !bytes.Equal(want, p[done:done+n]) {
			for i := range want {
				if want[i] != p[done+i] {
					return done + i
				}
			}
		}
		done += n
	}
	return -1
}

// explain says where in the stream the bytes that came belong.
func (s *stream) explain(offset int64, p []byte) string {
	if len(p) < 8 {
		return fmt.Sprintf("too few follow to say what they are: %x", p)
	}
	found := bytes.Index(noise, p[:8])
	if found < 0 {
		return fmt.Sprintf("they are of no stream: %x", p[:8])
	}
	skipped := ((int64(found)-int64(s.phase)-offset)%period + period) % period
	if skipped > period/2 {
		return fmt.Sprintf("they are those of %d bytes before, or of another stream", period-skipped)
	}
	return fmt.Sprintf("they are those of %d bytes later, or of another stream", skipped)
}

func (s *stream) String() string {
	text := fmt.Sprintf("sent %d, got %d, held %d, fin %v, ended %v", s.sent.Load(), s.got.Load(), s.held.Load(), s.fin.Load(), s.ended.Load())
	if cause := s.cause.Load(); cause != nil {
		text += ", cut: " + *cause
	}
	return text
}
