// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// server accepts on 127.0.0.1 and hands the connections over. Other addresses of the
// loopback network refuse connections to its port.
func server(t testing.TB) (port int, accepted <-chan net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	conns := make(chan net.Conn, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil { // a test may have taken all descriptors for a while
				conns <- conn
			}
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		for len(conns) > 0 {
			_ = (<-conns).Close()
		}
	})
	return ln.Addr().(*net.TCPAddr).Port, conns
}

// names are the records of the tests' name server.
var names = map[string][]string{
	"good.test":      {"127.0.0.1"},
	"third.test":     {"127.0.0.2", "127.0.0.3", "127.0.0.1"},
	"bad.test":       {"127.0.0.2", "127.0.0.3"},
	"both.test":      {"127.0.0.2", "127.0.0.1", "::1"},
	"six.test":       {"::1"},
	"multicast.test": {"224.0.0.1", "ff02::1"},
}

// outcome records the events of a bufferevent that connects, and stops its loop after each
// event.
func outcome(t testing.TB, bev *libevent.BufferEvent) *[]libevent.Events {
	t.Helper()
	events := new([]libevent.Events)
	require.NoError(t, bev.SetCallbacks(
		func(*libevent.BufferEvent) { assert.Fail(t, "read") },
		nil,
		func(b *libevent.BufferEvent, what libevent.Events) {
			*events = append(*events, what)
			// The loop stops a little later, to see whether more events come.
			assert.NoError(t, b.Base().LoopExit(10*time.Millisecond))
		}))
	return events
}

// forBothKinds runs a test on an ordinary bufferevent and on one with OptLoopOnly.
func forBothKinds(t *testing.T, test func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent)) {
	for name, opts := range map[string]libevent.Options{"shared": 0, "loop only": libevent.OptLoopOnly} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, err := base.NewSocket(-1, opts|libevent.OptCloseOnFree)
			require.NoError(t, err)
			test(t, base, bev)
		})
	}
}

func TestConnectHostname(t *testing.T) {
	port, accepted := server(t)
	s := newNameserver(t, names)
	for name, c := range map[string]struct {
		cfg           *libevent.DNSConfig // nil means Go's resolver
		network, host string
	}{
		"Go's resolver":          {nil, "tcp4", "localhost"},
		"literal, Go's resolver": {nil, "tcp", "127.0.0.1"},
		"literal, evdns":         {&libevent.DNSConfig{NoSystemConfig: true}, "tcp4", "127.0.0.1"},
		"mapped literal":         {nil, "tcp", "::ffff:127.0.0.1"},
		"system's hosts file":    {&libevent.DNSConfig{}, "tcp4", "localhost"},
		"name server":            {&libevent.DNSConfig{NoSystemConfig: true, Nameservers: []string{s.addr()}}, "tcp", "good.test"},
		"two addresses refuse":   {&libevent.DNSConfig{NoSystemConfig: true, Nameservers: []string{s.addr()}}, "tcp", "third.test"},
		"others of the family":   {&libevent.DNSConfig{NoSystemConfig: true, Nameservers: []string{s.addr()}}, "tcp4", "both.test"},
	} {
		t.Run(name, func(t *testing.T) {
			forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
				var dns *libevent.DNSBase
				if c.cfg != nil {
					dns = testutil.NewDNSBase(t, base, *c.cfg)
				}
				fds := testutil.OpenFDs(t)
				events := outcome(t, bev)
				require.NoError(t, bev.Enable(rd|wr))
				_, err := bev.WriteString("written before")
				require.NoError(t, err)
				require.NoError(t, bev.ConnectHostname(dns, c.network, c.host, port))
				assert.Equal(t, -1, bev.FD())
				assert.Equal(t, rd|wr, bev.Enabled())
				_, err = bev.WriteString(", and meanwhile")
				require.NoError(t, err)
				testutil.Dispatch(t, base)
				assert.Equal(t, []libevent.Events{libevent.EventConnected}, *events)
				assert.NoError(t, bev.Err())
				assert.Equal(t, rd|wr, bev.Enabled())
				assert.Equal(t, "127.0.0.1:"+strconv.Itoa(port), bev.RemoteAddr().String())
				conn := testutil.Receive(t, accepted)
				defer conn.Close()
				require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
				testutil.Dispatch(t, base)
				got, err := io.ReadAll(conn)
				require.NoError(t, err)
				assert.Equal(t, "written before, and meanwhile", string(got))
				if c.cfg != nil {
					assert.LessOrEqual(t, testutil.OpenFDs(t), fds+1, "no socket of an attempt is left")
				}
			})
		})
	}
}

// Connecting changes nothing of what the user has enabled.
func TestConnectHostnameKeepsEnabled(t *testing.T) {
	port, accepted := server(t)
	for _, what := range []libevent.What{0, rd, wr, rd | wr} {
		t.Run(what.String(), func(t *testing.T) {
			forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
				dns := newDNS(t, base, newNameserver(t, names))
				events, writes := 0, 0
				require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) { writes++ },
					func(b *libevent.BufferEvent, e libevent.Events) {
						events++
						assert.Equal(t, libevent.EventConnected, e)
						assert.Equal(t, what, b.Enabled())
						assert.NoError(t, b.Base().LoopExit(10*time.Millisecond))
					}))
				require.NoError(t, bev.Disable(rd|wr))
				require.NoError(t, bev.ConnectHostname(dns, "tcp", "third.test", port))
				require.NoError(t, bev.Enable(what))
				testutil.Dispatch(t, base)
				assert.Equal(t, 1, events)
				assert.Zero(t, writes, "nothing was written")
				_ = testutil.Receive(t, accepted).Close()
			})
		})
	}
}

func TestConnectHostnameFails(t *testing.T) {
	port, accepted := server(t)
	s := newNameserver(t, names)
	for name, c := range map[string]struct {
		useGo         bool
		network, host string
		op            string
		check         func(t *testing.T, err error)
	}{
		"all refuse":      {false, "tcp", "bad.test", "connect", isRefused},
		"literal refuses": {true, "tcp", "127.0.0.2", "connect", isRefused},
		"no such name, Go's resolver": {true, "tcp", "no-such-name.invalid", "lookup", func(t *testing.T, err error) {
			var cause *net.DNSError
			assert.ErrorAs(t, err, &cause)
		}},
		"no such name": {false, "tcp", "nowhere.test", "lookup", func(t *testing.T, err error) {
			var cause *libevent.DNSError
			require.ErrorAs(t, err, &cause)
			assert.True(t, cause.IsNotFound())
		}},
		"no address of the family": {false, "tcp6", "good.test", "lookup", func(t *testing.T, err error) {
			var cause *libevent.DNSError
			require.ErrorAs(t, err, &cause)
			assert.Equal(t, "good.test", cause.Host)
		}},
		"no address that can be connected": {false, "tcp", "multicast.test", "connect", func(t *testing.T, err error) {
			var cause syscall.Errno
			assert.ErrorAs(t, err, &cause)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
				dns := newDNS(t, base, s)
				using := dns
				if c.useGo {
					using = nil
				}
				fds := testutil.OpenFDs(t)
				_, err := bev.WriteString("kept")
				require.NoError(t, err)
				failToConnect(t, bev, using, c.network, c.host, port, c.op)
				c.check(t, bev.Err())
				if !c.useGo {
					assert.Equal(t, fds, testutil.OpenFDs(t))
				}
				connectAfterFailure(t, bev, dns, port)
				assert.Equal(t, "kept", receivedOf(t, bev, accepted))
			})
		})
	}
}

func isRefused(t *testing.T, err error) { assert.ErrorIs(t, err, syscall.ECONNREFUSED) }

// failToConnect expects one event of a ConnectHostname, and its error in op. What the user
// has enabled stays.
func failToConnect(t *testing.T, bev *libevent.BufferEvent, dns *libevent.DNSBase, network, host string, port int, op string) {
	t.Helper()
	events := outcome(t, bev)
	require.NoError(t, bev.Enable(rd))
	require.NoError(t, bev.ConnectHostname(dns, network, host, port))
	testutil.Dispatch(t, bev.Base())
	assert.Equal(t, []libevent.Events{libevent.EventError}, *events)
	var e *libevent.Error
	require.ErrorAs(t, bev.Err(), &e)
	assert.Equal(t, op, e.Op)
	_, err := bev.Read(make([]byte, 1))
	assert.Equal(t, bev.Err(), err)
	assert.Equal(t, rd|wr, bev.Enabled())
	assert.Equal(t, -1, bev.FD())
}

// connectAfterFailure tries again with a name of which the last address accepts.
func connectAfterFailure(t *testing.T, bev *libevent.BufferEvent, dns *libevent.DNSBase, port int) {
	t.Helper()
	events := outcome(t, bev)
	require.NoError(t, bev.ConnectHostname(dns, "tcp", "third.test", port))
	testutil.Dispatch(t, bev.Base())
	assert.Equal(t, []libevent.Events{libevent.EventConnected}, *events)
	assert.NoError(t, bev.Err())
}

// receivedOf ends a connected bufferevent and returns all that its peer received.
func receivedOf(t *testing.T, bev *libevent.BufferEvent, accepted <-chan net.Conn) string {
	t.Helper()
	conn := testutil.Receive(t, accepted)
	defer conn.Close()
	base := bev.Base()
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(got)
}

func TestConnectHostnameArguments(t *testing.T) {
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	require.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) { assert.Fail(t, "called") }))
	for _, c := range []struct {
		network, host string
		port          int
	}{
		{"udp", "localhost", 1}, {"unix", "localhost", 1}, {"", "localhost", 1}, {"tcp", "", 1}, {"tcp", "a..b", 1},
		{"tcp", "nul\x00", 1}, {"tcp", "localhost", 0}, {"tcp", "localhost", -1}, {"tcp", "localhost", 65536},
		{"tcp4", "::1", 1}, {"tcp6", "127.0.0.1", 1}, {"tcp6", "::ffff:127.0.0.1", 1},
	} {
		assert.ErrorIs(t, bev.ConnectHostname(nil, c.network, c.host, c.port), syscall.EINVAL, "%+v", c)
	}
	a, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, a.ConnectHostname(nil, "tcp", "localhost", 1), syscall.EINVAL)
	f, err := libevent.NewFilter(bev, nil, nil, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, f.ConnectHostname(nil, "tcp", "localhost", 1), syscall.EINVAL)
	f.Free()
	dns := newDNS(t, base, nil)
	dns.Free()
	assert.ErrorIs(t, bev.ConnectHostname(dns, "tcp", "localhost", 1), libevent.ErrClosed)
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	bev.Free()
	assert.ErrorIs(t, bev.ConnectHostname(nil, "tcp", "localhost", 1), libevent.ErrClosed)
}

// Whatever ends a ConnectHostname leaves no closure, socket or lookup of it behind.
func TestConnectHostnameIsEnded(t *testing.T) {
	port, accepted := server(t)
	s := newNameserver(t, names)
	for stage, reach := range stagesOfConnecting(s, port) {
		for name, end := range waysToEndConnecting(port) {
			t.Run(stage+", by "+name, func(t *testing.T) {
				forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
					dns := newDNS(t, base, s)
					fds, goroutines := testutil.OpenFDs(t), runtime.NumGoroutine()
					var events []libevent.Events
					require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
						events = append(events, what)
						if what == libevent.EventConnected {
							b.Free()
						}
					}))
					require.NoError(t, bev.Enable(rd|wr))
					reach(t, base, bev, dns)
					events = nil
					if end(t, bev, dns) {
						testutil.Dispatch(t, base)
						assert.Equal(t, []libevent.Events{libevent.EventConnected}, events)
						_ = testutil.Receive(t, accepted).Close()
					} else {
						// A direction that is on keeps the loop, also without a descriptor.
						require.NoError(t, base.LoopExit(10*time.Millisecond))
						testutil.Dispatch(t, base)
						assert.Empty(t, events)
					}
					bev.Free()
					dns.Free()
					// The goroutine of a lookup that has just ended may still use the bufferevent.
					testutil.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines }, "no lookup is left")
					testutil.Dispatch(t, base)
					assert.Equal(t, libevent.Stats{Callbacks: base.Stats().Callbacks}, base.Stats())
					testutil.Eventually(t, func() bool { return testutil.OpenFDs(t) <= fds }, "no socket is left")
				})
			})
		}
	}
}

// stagesOfConnecting are functions that begin a ConnectHostname and return when it has come
// as far as the name says.
func stagesOfConnecting(s *nameserver, port int) map[string]func(*testing.T, *libevent.Base, *libevent.BufferEvent, *libevent.DNSBase) {
	return map[string]func(*testing.T, *libevent.Base, *libevent.BufferEvent, *libevent.DNSBase){
		"during evdns's lookup": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, dns *libevent.DNSBase) {
			s.hush(true)
			defer s.hush(false)
			asked := s.wasAsked("third.test")
			require.NoError(t, bev.ConnectHostname(dns, "tcp4", "third.test", port))
			testutil.Eventually(t, func() bool {
				assert.NoError(t, base.Loop(libevent.LoopNonblock))
				return s.wasAsked("third.test") > asked
			}, "the name server is asked")
		},
		"during Go's lookup": func(t *testing.T, _ *libevent.Base, bev *libevent.BufferEvent, _ *libevent.DNSBase) {
			require.NoError(t, bev.ConnectHostname(nil, "tcp4", "localhost", port))
		},
		"between attempts": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, dns *libevent.DNSBase) {
			require.NoError(t, bev.ConnectHostname(dns, "tcp4", "third.test", port))
			testutil.Eventually(t, func() bool {
				assert.NoError(t, base.Loop(libevent.LoopOnce))
				return bev.FD() != -1
			}, "an attempt is made")
		},
		"after it failed": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, dns *libevent.DNSBase) {
			require.NoError(t, bev.ConnectHostname(dns, "tcp4", "nowhere.test", port))
			testutil.Eventually(t, func() bool {
				assert.NoError(t, base.Loop(libevent.LoopOnce))
				return bev.Err() != nil
			}, "the error")
		},
	}
}

// waysToEndConnecting are functions that end a ConnectHostname, and say whether they begin
// another attempt, which succeeds.
func waysToEndConnecting(port int) map[string]func(*testing.T, *libevent.BufferEvent, *libevent.DNSBase) (connects bool) {
	return map[string]func(*testing.T, *libevent.BufferEvent, *libevent.DNSBase) bool{
		"Free": func(_ *testing.T, bev *libevent.BufferEvent, _ *libevent.DNSBase) bool {
			bev.Free()
			return false
		},
		"FreeAfterFlush": func(t *testing.T, bev *libevent.BufferEvent, _ *libevent.DNSBase) bool {
			assert.NoError(t, bev.FreeAfterFlush(testutil.Patience))
			return false
		},
		"SetFD": func(t *testing.T, bev *libevent.BufferEvent, _ *libevent.DNSBase) bool {
			assert.NoError(t, bev.SetFD(-1))
			return false
		},
		"Connect": func(t *testing.T, bev *libevent.BufferEvent, _ *libevent.DNSBase) bool {
			assert.NoError(t, bev.Connect("tcp", "127.0.0.1:"+strconv.Itoa(port)))
			return true
		},
		"Connect that fails at once": func(t *testing.T, bev *libevent.BufferEvent, _ *libevent.DNSBase) bool {
			assert.Error(t, bev.Connect("unix", "/not/there"))
			return false
		},
		"ConnectHostname": func(t *testing.T, bev *libevent.BufferEvent, dns *libevent.DNSBase) bool {
			assert.NoError(t, bev.ConnectHostname(dns, "tcp", "good.test", port))
			return true
		},
	}
}

// Other goroutines than the loop's can end a ConnectHostname only by freeing, and that at
// any moment.
func TestConnectHostnameFreedElsewhere(t *testing.T) {
	port, _ := server(t)
	s := newNameserver(t, names)
	base := testutil.NewBase(t)
	dns := newDNS(t, base, s)
	testutil.Background(t, base)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 50 {
				bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
				assert.NoError(t, err)
				connected := make(chan struct{}, 1)
				assert.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) { connected <- struct{}{} }))
				with, host := dns, "third.test"
				if i == 0 {
					with, host = nil, "localhost"
				}
				assert.NoError(t, bev.ConnectHostname(with, "tcp4", host, port))
				for range j {
					runtime.Gosched()
				}
				if j%10 == 0 {
					<-connected
				}
				if j%2 == 0 {
					bev.Free()
				} else {
					assert.NoError(t, bev.FreeAfterFlush(testutil.Patience))
				}
			}
		})
	}
	wg.Wait()
	testutil.Eventually(t, func() bool { s := base.Stats(); return s.BufferEvents+s.DNSLookups == 0 }, "all are gone")
}

// While a ConnectHostname is under way, only the loop's goroutine may make the calls that
// would end it.
func TestConnectHostnameWrongLoop(t *testing.T) {
	s := newNameserver(t, names)
	s.hush(true)
	base := testutil.NewBase(t)
	dns := newDNS(t, base, s)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {}) // the loop runs now
	require.NoError(t, bev.ConnectHostname(dns, "tcp", "good.test", 1))
	assert.ErrorIs(t, bev.Connect("tcp", "127.0.0.1:1"), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.ConnectHostname(dns, "tcp", "good.test", 1), libevent.ErrWrongLoop)
	testutil.OnLoop(t, base, func() { assert.NoError(t, bev.SetFD(-1)) })
	require.NoError(t, bev.ConnectHostname(dns, "tcp", "good.test", 1))
	bev.Free()
}

// The DNSBase or the base may be freed before the bufferevent that uses it.
func TestConnectHostnameAndFreeOfOthers(t *testing.T) {
	s := newNameserver(t, names)
	s.hush(true)
	base, err := libevent.NewBase()
	require.NoError(t, err)
	dns := newDNS(t, base, s)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	events := outcome(t, bev)
	require.NoError(t, bev.ConnectHostname(dns, "tcp", "good.test", 1))
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	dns.Free()
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.Events{libevent.EventError}, *events)
	assert.ErrorIs(t, bev.Err(), libevent.ErrClosed)

	other := newDNS(t, base, s)
	require.NoError(t, bev.ConnectHostname(other, "tcp", "good.test", 1))
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	also, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, also.ConnectHostname(nil, "tcp", "localhost", 1))
	require.NoError(t, base.Free())
	assert.Len(t, *events, 1)
}

// The DNSBase may belong to another loop.
func TestConnectHostnameWithDNSOfAnotherLoop(t *testing.T) {
	port, accepted := server(t)
	other := testutil.NewBase(t)
	dns := newDNS(t, other, newNameserver(t, names))
	testutil.Background(t, other)
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	events := outcome(t, bev)
	require.NoError(t, bev.ConnectHostname(dns, "tcp", "third.test", port))
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.Events{libevent.EventConnected}, *events)
	_ = testutil.Receive(t, accepted).Close()
}

// Timeouts do not run during the lookup. They limit each attempt to connect.
func TestConnectHostnameTimeout(t *testing.T) {
	full := testutil.FullBacklog(t, "127.0.0.1", 0)
	s := newNameserver(t, map[string][]string{"full.test": {"127.0.0.1"}, "then.test": {"127.0.0.1", "127.0.0.2"}})
	forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
		s.hush(true)
		dns := newDNS(t, base, s)
		events := outcome(t, bev)
		require.NoError(t, bev.Enable(rd|wr))
		require.NoError(t, bev.SetTimeouts(time.Millisecond, time.Millisecond))
		_, err := bev.WriteString("x")
		require.NoError(t, err)
		require.NoError(t, bev.ConnectHostname(dns, "tcp", "full.test", full))
		require.NoError(t, base.LoopExit(20*time.Millisecond))
		testutil.Dispatch(t, base)
		assert.Empty(t, *events)
		s.speak()
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventError}, *events)
		assert.ErrorIs(t, bev.Err(), os.ErrDeadlineExceeded)
		var e net.Error
		require.ErrorAs(t, bev.Err(), &e)
		assert.True(t, e.Timeout())
		assert.Equal(t, rd|wr, bev.Enabled())

		// The attempt with the next address has the whole time again, and is refused. The
		// error is that of the first failure.
		*events = nil
		require.NoError(t, bev.ConnectHostname(dns, "tcp4", "then.test", full))
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventError}, *events)
		assert.ErrorIs(t, bev.Err(), os.ErrDeadlineExceeded)
		assert.Equal(t, -1, bev.FD())
	})
}

// Without free descriptors connecting fails, and the next try works.
func TestConnectHostnameEMFILE(t *testing.T) {
	port, accepted := server(t)
	forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
		dns := newDNS(t, base, newNameserver(t, names))
		events := outcome(t, bev)
		var limit syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		low := limit
		low.Cur = 0
		require.NoError(t, bev.ConnectHostname(dns, "tcp", "third.test", port))
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
		testutil.Dispatch(t, base)
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		assert.Equal(t, []libevent.Events{libevent.EventError}, *events)
		assert.ErrorIs(t, bev.Err(), syscall.EMFILE)

		*events = nil
		require.NoError(t, bev.ConnectHostname(dns, "tcp", "third.test", port))
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventConnected}, *events)
		_ = testutil.Receive(t, accepted).Close()
	})
}

// With a descriptor of the caller's there is one attempt, on that descriptor.
func TestConnectHostnameWithDescriptor(t *testing.T) {
	port, accepted := server(t)
	base := testutil.NewBase(t)
	dns := newDNS(t, base, newNameserver(t, names))
	for host, want := range map[string]libevent.Events{"good.test": libevent.EventConnected, "third.test": libevent.EventError} {
		fd := testutil.TCPSocket(t)
		bev, err := base.NewSocket(fd, 0)
		require.NoError(t, err)
		events := outcome(t, bev)
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, bev.ConnectHostname(dns, "tcp", host, port))
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{want}, *events, host)
		assert.Equal(t, fd, bev.FD())
		if want == libevent.EventError {
			assert.ErrorIs(t, bev.Err(), syscall.ECONNREFUSED)
		} else {
			_ = testutil.Receive(t, accepted).Close()
		}
		bev.Free()
		assert.NoError(t, syscall.Close(fd), "it is still the caller's")
	}
}

func TestConnectHostnameCloseWrite(t *testing.T) {
	port, accepted := server(t)
	forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
		dns := newDNS(t, base, newNameserver(t, names))
		events := outcome(t, bev)
		require.NoError(t, bev.ConnectHostname(dns, "tcp", "third.test", port))
		_, err := bev.WriteString("all there is")
		require.NoError(t, err)
		require.NoError(t, bev.CloseWrite())
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventConnected}, *events)
		conn := testutil.Receive(t, accepted)
		defer conn.Close()
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "all there is", string(got))
	})
}

// A filter on top of the bufferevent gets the one event as well.
func TestConnectHostnameUnderFilter(t *testing.T) {
	port, accepted := server(t)
	base := testutil.NewBase(t)
	dns := newDNS(t, base, newNameserver(t, names))
	for host, want := range map[string]libevent.Events{
		"third.test": libevent.EventConnected, "bad.test": libevent.EventError, "nowhere.test": libevent.EventError,
	} {
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		require.NoError(t, bev.SetTimeouts(time.Hour, time.Hour))
		require.NoError(t, bev.ConnectHostname(dns, "tcp", host, port))
		f, err := libevent.NewFilter(bev, nil, nil, libevent.OptCloseOnFree)
		require.NoError(t, err)
		events := outcome(t, f)
		require.NoError(t, f.Enable(rd))
		_, err = f.WriteString("through a filter")
		require.NoError(t, err)
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{want}, *events, host)
		if want == libevent.EventConnected {
			conn := testutil.Receive(t, accepted)
			require.NoError(t, f.FreeAfterFlush(testutil.Patience))
			testutil.Dispatch(t, base)
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			assert.Equal(t, "through a filter", string(got))
			_ = conn.Close()
			continue
		}
		var e *libevent.Error
		require.ErrorAs(t, f.Err(), &e)
		f.Free()
	}
}

// The failure of an earlier Connect, which is still queued, is not taken for a failure of
// the ConnectHostname.
func TestConnectHostnameAfterFailedConnect(t *testing.T) {
	port, accepted := server(t)
	forBothKinds(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
		dns := newDNS(t, base, newNameserver(t, names))
		events := outcome(t, bev)
		require.NoError(t, bev.Connect("tcp", "127.0.0.2:"+strconv.Itoa(port)))
		require.NoError(t, bev.SetFD(-1))
		require.NoError(t, bev.ConnectHostname(dns, "tcp", "good.test", port))
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventConnected}, *events)
		_ = testutil.Receive(t, accepted).Close()
	})
}
