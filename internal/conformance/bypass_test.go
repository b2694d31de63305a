// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// While a read closure runs, the fast path keeps bytes outside of the buffers. Whatever the
// closure, or another goroutine, does meanwhile, both see the same as without the fast path, and
// so does the peer.

// closure is a read closure that runs once, with "hello" in the input, and keeps a record.
type closure struct {
	bev    *libevent.BufferEvent
	record []string
}

func (c *closure) notes(what string, results ...any) {
	c.record = append(c.record, what+": "+fmt.Sprintln(results...))
}

// elsewhere runs fn on another goroutine, and waits for it.
func (c *closure) elsewhere(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

func (c *closure) read(n int) {
	p := make([]byte, n)
	n, err := c.bev.Read(p)
	c.notes("Read", string(p[:n]), err)
}

func (c *closure) write(text string) {
	n, err := c.bev.WriteString(text)
	c.notes("Write", n, err)
}

func (c *closure) lengths() {
	c.notes("lengths", c.bev.Input().Len(), c.bev.Output().Len())
}

var closureActs = map[string]func(c *closure){
	"nothing":   func(c *closure) {},
	"read all":  func(c *closure) { c.read(10) },
	"read some": func(c *closure) { c.read(2); c.lengths(); c.read(2) },
	"read and write": func(c *closure) {
		c.read(10)
		c.write("one ")
		c.lengths()
		c.write("two ")
		c.read(1)
		c.lengths()
	},
	"move": func(c *closure) {
		c.notes("move", c.bev.WriteBuffer(c.bev.Input()))
		c.lengths()
		c.read(1)
	},
	"write, move, write": func(c *closure) {
		c.write("<")
		c.notes("move", c.bev.Output().AddBuffer(c.bev.Input()))
		c.write(">")
		c.lengths()
	},
	"move, write, move": func(c *closure) {
		c.read(1)
		c.notes("move", c.bev.ReadBuffer(c.bev.Output()))
		c.write("!")
		c.notes("again", c.bev.ReadBuffer(c.bev.Output()))
	},
	"much": func(c *closure) {
		for range 10 {
			c.write(strings.Repeat("0123456789abcdef", 256))
		}
		c.write(strings.Repeat("x", 40000))
		c.lengths()
	},
	"look": func(c *closure) {
		c.write("first ")
		c.notes("Search", c.bev.Input().Search([]byte("lo"), 0))
		c.notes("Peek", c.bev.Input().Peek(func(spans [][]byte) { c.notes("spans", string(slices.Concat(spans...))) }))
		c.write("second ")
		c.read(10)
	},
	"look at the output": func(c *closure) {
		c.write("first ")
		c.notes("move", c.bev.WriteBuffer(c.bev.Input()))
		c.notes("Peek", c.bev.Output().Peek(func(spans [][]byte) { c.notes("spans", string(slices.Concat(spans...))) }))
		c.notes("Drain", c.bev.Output().Drain(3))
		c.write("second ")
	},
	"put back": func(c *closure) {
		c.read(3)
		c.notes("Prepend", c.bev.Input().Prepend([]byte("HEL")))
		c.lengths()
		c.read(10)
	},
	"prepend to the output": func(c *closure) {
		c.write("b")
		c.notes("Prepend", c.bev.Output().Prepend([]byte("a")))
		c.notes("Unfreeze", c.bev.Output().Unfreeze(true))
		c.notes("Prepend", c.bev.Output().Prepend([]byte("a")))
		c.write("c")
	},
	"freeze": func(c *closure) {
		c.write("a")
		c.notes("Freeze", c.bev.Output().Freeze(false))
		c.write("b")
		c.notes("move", c.bev.WriteBuffer(c.bev.Input()))
		c.notes("Unfreeze", c.bev.Output().Unfreeze(false))
		c.write("c")
	},
	"drain": func(c *closure) {
		c.notes("Drain", c.bev.Input().Drain(2))
		c.lengths()
		c.notes("move", c.bev.WriteBuffer(c.bev.Input()))
	},
	"stop and go": func(c *closure) {
		c.write("a")
		c.notes("Disable", c.bev.Disable(rd|wr))
		c.write("b")
		c.lengths()
		c.notes("Enable", c.bev.Enable(rd|wr))
		c.write("c")
	},
	"shut": func(c *closure) {
		c.write("last")
		c.notes("CloseWrite", c.bev.CloseWrite())
		c.write("too late")
		c.read(10)
	},
	"FreeAfterFlush": func(c *closure) {
		c.write("last")
		c.notes("FreeAfterFlush", c.bev.FreeAfterFlush(testutil.Patience))
		c.write("too late")
		c.read(10)
	},
	"from elsewhere": func(c *closure) {
		c.write("a")
		c.elsewhere(func() { c.lengths(); c.read(2); c.write("b") })
		c.write("c")
		c.read(10)
	},
	"another adds to the output": func(c *closure) {
		c.write("a")
		c.elsewhere(func() { c.notes("Add", c.bev.Output().Add([]byte("b"))) })
		c.write("c")
		c.elsewhere(func() { c.notes("Prepend", c.bev.Input().Prepend([]byte("oh "))) })
		c.notes("move", c.bev.WriteBuffer(c.bev.Input()))
	},
	"another moves": func(c *closure) {
		c.write("a")
		c.elsewhere(func() { c.notes("move", c.bev.WriteBuffer(c.bev.Input())) })
		c.write("c")
		c.lengths()
	},
	"watermarks": func(c *closure) {
		c.write("a")
		c.notes("SetWatermark", c.bev.SetWatermark(rd, 0, 3))
		c.read(1)
		c.notes("SetWatermark", c.bev.SetWatermark(wr, 2, 0))
		c.write("b")
	},
	"callbacks": func(c *closure) {
		c.write("a")
		total := 0
		_, err := c.bev.Output().AddCallback(func(_ *libevent.Buffer, added, _ int) { total += added })
		c.notes("AddCallback", err)
		c.write("b")
		c.read(10)
	},
	"a loan": func(c *closure) {
		c.notes("Reserve", c.bev.Output().Reserve(10, func(spans [][]byte) int {
			c.write("refused")
			c.notes("move", c.bev.WriteBuffer(c.bev.Input()))
			return copy(spans[0], "reserved")
		}))
		c.write("b")
	},
}

// maker makes a bufferevent and its peer. What the peer does first it does at its first Write.
type maker func(t *testing.T, base *libevent.Base) (*libevent.BufferEvent, net.Conn)

func makeSocket(t *testing.T, base *libevent.Base) (*libevent.BufferEvent, net.Conn) {
	return testutil.NewSocket(t, base, 0)
}

// tlsMaker makes servers of TLS, whose bytes OpenSSL carries.
func tlsMaker(t *testing.T) maker {
	certFile, keyFile, roots := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	ctx, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}})
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	return func(t *testing.T, base *libevent.Base) (*libevent.BufferEvent, net.Conn) {
		fd, peer := testutil.TCPPair(t)
		conn, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
		require.NoError(t, err)
		return conn.BufferEvent, tls.Client(peer, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	}
}

// run has the closure do something, and returns the record and what the peer got.
func (c *closure) run(t *testing.T, base *libevent.Base, mk maker, act func(c *closure)) string {
	bev, peer := mk(t, base)
	c.bev = bev
	testutil.Background(t, base)
	ran := make(chan struct{})
	acts := []func(c *closure){act}
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		if len(acts) > 0 {
			act, acts = acts[0], nil
			act(c)
			close(ran)
		}
	}, nil, func(*libevent.BufferEvent, libevent.Events) {}))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	got := testutil.ReadAll(peer)
	testutil.Receive(t, ran)
	testutil.OnLoop(t, base, func() { // the closure is done
		if c.bev.Err() == nil {
			p := make([]byte, 100)
			n, err := c.bev.Read(p)
			c.notes("left", string(p[:n]), err)
		}
	})
	if err := bev.FreeAfterFlush(testutil.Patience); err != nil {
		assert.ErrorIs(t, err, libevent.ErrClosed)
	}
	c.notes("peer", string(testutil.Receive(t, got)))
	return strings.Join(c.record, "")
}

func TestClosureCannotTellTheFastPath(t *testing.T) {
	for kind, mk := range map[string]maker{"socket": makeSocket, "TLS": tlsMaker(t)} {
		for name, act := range closureActs {
			t.Run(kind+"/"+name, func(t *testing.T) {
				var records [2]string
				for i := range records {
					base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: i == 1})
					require.NoError(t, err)
					t.Cleanup(func() { assert.NoError(t, base.Free()) })
					records[i] = (&closure{}).run(t, base, mk, act)
				}
				assert.Equal(t, records[1], records[0])
			})
		}
	}
}

// A closure is told the length of what it has to read, also while another goroutine asks for a length.
func TestLengthWhileAnotherAsks(t *testing.T) {
	for kind, mk := range map[string]maker{"socket": makeSocket, "TLS": tlsMaker(t)} {
		t.Run(kind, func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, peer := mk(t, base)
			testutil.Background(t, base)
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				p := make([]byte, 100)
				n := b.Input().Len()
				assert.Equal(t, len(p), n)
				_, _ = b.Read(p)
				_, err := b.Write(p)
				assert.NoError(t, err)
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			done := make(chan struct{})
			asks := make(chan struct{})
			go func() {
				defer close(asks)
				for {
					select {
					case <-done:
						return
					default:
						bev.Output().Len()
						runtime.Gosched() // there may be one processor
					}
				}
			}()
			text := strings.Repeat("x", 100)
			for range 5000 {
				if testutil.Say(t, peer, text) != text || t.Failed() {
					break
				}
			}
			close(done)
			<-asks
			testutil.OnLoop(t, base, bev.Free)
		})
	}
}

// The bytes of a closure that panics are neither lost nor told twice.
func TestClosurePanicsOnTheWay(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		first := true
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			if !first {
				_ = b.WriteBuffer(b.Input())
				_ = b.FreeAfterFlush(testutil.Patience)
				return
			}
			first = false
			p := make([]byte, 2)
			n, err := b.Read(p)
			assert.NoError(t, err)
			_, err = b.Write(p[:n])
			assert.NoError(t, err)
			assert.NoError(t, b.Trigger(rd, 0))
			panic(errors.New("on the way"))
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("hello"))
		require.NoError(t, err)
		assert.NotNil(t, testutil.Raises(func() { testutil.Dispatch(t, base) }))
		testutil.Dispatch(t, base)
		require.NoError(t, peer.SetReadDeadline(time.Now().Add(testutil.Patience)))
		got, err := io.ReadAll(peer)
		assert.NoError(t, err)
		assert.Equal(t, "hello", string(got))
	})
}
