// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// full returns the address of a listener whose backlog is full: connecting to it never ends.
func full(t testing.TB) string {
	t.Helper()
	fd := testutil.TCPSocket(t)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	sa, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	in4 := sa.(*syscall.SockaddrInet4)
	address := (&net.TCPAddr{IP: in4.Addr[:], Port: in4.Port}).String()
	for {
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// hello serves connections: it writes a greeting to each and closes it.
func hello(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no %s: %v", address, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go serve(l, func(c net.Conn) { _, _ = io.WriteString(c, "hello "+c.RemoteAddr().String()) })
	return l
}

// helloOnOneFamily makes a hello server at the loopback address of one family. The same port of the
// other family refuses, and is kept taken.
func helloOnOneFamily(t testing.TB, six bool) net.Listener {
	t.Helper()
	for {
		address, family := "127.0.0.1:0", syscall.AF_INET6
		if six {
			address, family = "[::1]:0", syscall.AF_INET
		}
		l := hello(t, "tcp", address)
		var other syscall.Sockaddr = &syscall.SockaddrInet6{Port: l.Addr().(*net.TCPAddr).Port, Addr: [16]byte{15: 1}}
		if six {
			other = &syscall.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
		}
		fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			return l
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = syscall.Close(fd) })
		if err := syscall.Bind(fd, other); err == nil || errors.Is(err, syscall.EADDRNOTAVAIL) {
			return l
		}
	}
}

// greeting checks the greeting of a hello server and returns the server's address.
func greeting(t testing.TB, c net.Conn, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer c.Close()
	got := testutil.Receive(t, readAll(c))
	assert.NoError(t, got.err)
	assert.Equal(t, "hello "+c.LocalAddr().String(), string(got.v))
	return c.RemoteAddr().String()
}

func TestDial(t *testing.T) {
	base := running(t)
	d := evnet.Dialer{Loop: base, Timeout: testutil.Patience}
	l := hello(t, "tcp4", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for _, network := range []string{"tcp", "tcp4"} {
		for _, host := range []string{"127.0.0.1", "localhost", ""} {
			c, err := d.Dial(network, net.JoinHostPort(host, port))
			assert.Equal(t, l.Addr().String(), greeting(t, c, err))
		}
	}
	_, err = d.Dial("tcp6", net.JoinHostPort("127.0.0.1", port))
	assert.Error(t, err)
}

// Dial tries the addresses of both families.
func TestDialFallsBack(t *testing.T) {
	base := running(t)
	dns, err := base.NewDNSBase(libevent.DNSConfig{NoSystemConfig: true})
	require.NoError(t, err)
	hosts := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(hosts, []byte("127.0.0.1 both.test four.test\n::1 both.test\n"), 0o600))
	require.NoError(t, dns.LoadHosts(hosts))
	for _, delay := range []time.Duration{0, -1} {
		d := evnet.Dialer{Loop: base, Timeout: testutil.Patience, DNS: dns, FallbackDelay: delay}
		for _, six := range []bool{false, true} {
			l := helloOnOneFamily(t, six)
			_, port, err := net.SplitHostPort(l.Addr().String())
			require.NoError(t, err)
			c, err := d.Dial("tcp", net.JoinHostPort("both.test", port))
			assert.Equal(t, l.Addr().String(), greeting(t, c, err))
		}
	}
	d := evnet.Dialer{Loop: base, Timeout: testutil.Patience, DNS: dns}
	c, err := d.Dial("tcp", "both.test:1")
	assert.Nil(t, c)
	assertOp(t, err, "dial", syscall.ECONNREFUSED)
	_, err = d.Dial("tcp6", "four.test:1")
	var notFound *net.DNSError
	assert.ErrorAs(t, err, &notFound)
	assertOp(t, err, "dial", err)
}

func TestDialErrors(t *testing.T) {
	base := running(t)
	refused := testutil.Refusing(t).String()
	d := evnet.Dialer{Loop: base}
	for _, c := range []struct {
		network, address string
		want             error
	}{
		{"tcp", refused, syscall.ECONNREFUSED},
		{"unix", "/nonexistent/s", syscall.ENOENT},
		{"udp", refused, net.UnknownNetworkError("udp")},
	} {
		conn, err := d.Dial(c.network, c.address)
		assert.Nil(t, conn)
		assertOp(t, err, "dial", c.want)
	}
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:no-such-service", "127.0.0.1:70000"} {
		_, err := d.Dial("tcp", address)
		assertOp(t, err, "dial", err)
	}
	_, err := (&evnet.Dialer{}).Dial("tcp", refused)
	assert.Error(t, err)
	nothingLeft(t, base)
}

// freePort returns an address on which no program listens.
func freePort(t testing.TB) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().(*net.TCPAddr)
}

// Dial to a port on which no program listens does not return a connection to itself, although
// the system chooses that same port to connect from about once in some thousand times.
func TestDialDoesNotMeetItself(t *testing.T) {
	d := evnet.Dialer{Loop: running(t)}
	addr := freePort(t)
	addr.Port &^= 1 // Linux prefers odd ports for listeners and even ports for connecting
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		c, err := d.Dial("tcp", addr.String())
		if err == nil {
			assert.NotEqual(t, c.RemoteAddr().String(), c.LocalAddr().String())
			assert.NoError(t, c.Close())
			return
		}
	}
}

// A caller that asks for a connection to itself, by its LocalAddr, gets one.
func TestDialToItself(t *testing.T) {
	d := evnet.Dialer{Loop: running(t)}
	addr := freePort(t)
	d.LocalAddr = addr
	c, err := d.Dial("tcp", addr.String())
	require.NoError(t, err)
	defer c.Close()
	assert.Equal(t, c.RemoteAddr().String(), c.LocalAddr().String())
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	n, err := c.Read(make([]byte, 2))
	assert.Equal(t, 1, n)
	assert.NoError(t, err)
}

func TestDialEndsInTime(t *testing.T) {
	base := running(t)
	address := full(t)
	for name, dial := range map[string]func() (net.Conn, error){
		"timeout": func() (net.Conn, error) {
			return (&evnet.Dialer{Loop: base, Timeout: 50 * time.Millisecond}).Dial("tcp", address)
		},
		"deadline": func() (net.Conn, error) {
			return (&evnet.Dialer{Loop: base, Deadline: time.Now().Add(50 * time.Millisecond)}).Dial("tcp", address)
		},
		"past": func() (net.Conn, error) {
			return (&evnet.Dialer{Loop: base, Deadline: time.Unix(1, 0)}).Dial("tcp", address)
		},
	} {
		got := testutil.Receive(t, async(dial))
		var timeout net.Error
		assert.True(t, errors.As(got.err, &timeout) && timeout.Timeout(), "%s: %v", name, got.err)
		assertOp(t, got.err, "dial", got.err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	dial := async(func() (net.Conn, error) { return (&evnet.Dialer{Loop: base}).DialContext(ctx, "tcp", address) })
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 1 }, "Dial connects")
	cancel()
	assertOp(t, testutil.Receive(t, dial).err, "dial", context.Canceled)
	nothingLeft(t, base)
}

// Dial fails when its base is freed meanwhile.
func TestDialOnABaseThatGoes(t *testing.T) {
	base := newBase(t)
	stop := background(t, base)
	address := full(t)
	dial := async(func() (net.Conn, error) { return (&evnet.Dialer{Loop: base}).Dial("tcp", address) })
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 1 }, "Dial connects")
	stop()
	assertOp(t, testutil.Receive(t, dial).err, "dial", net.ErrClosed)
}

func TestDialFromAnAddress(t *testing.T) {
	base := running(t)
	l := hello(t, "tcp", "127.0.0.1:0")
	d := evnet.Dialer{Loop: base, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.2", c.LocalAddr().(*net.TCPAddr).IP.String())
	greeting(t, c, nil)
	_, err = d.Dial("tcp", "[::1]:1")
	assert.Error(t, err)
	_, err = d.Dial("unix", "/nonexistent/s")
	assert.Error(t, err)

	six := hello(t, "tcp", "[::1]:0")
	for _, any := range []net.IP{nil, net.IPv4zero, net.IPv6unspecified} {
		d.LocalAddr = &net.TCPAddr{IP: any}
		for _, to := range []net.Listener{l, six} {
			c, err := d.Dial("tcp", to.Addr().String())
			assert.Equal(t, to.Addr().String(), greeting(t, c, err))
		}
	}

	dir := t.TempDir()
	u := hello(t, "unix", filepath.Join(dir, "s"))
	d.LocalAddr = &net.UnixAddr{Name: filepath.Join(dir, "c"), Net: "unix"}
	c, err = d.Dial("unix", u.Addr().String())
	require.NoError(t, err)
	assert.Equal(t, d.LocalAddr.String(), c.LocalAddr().String())
	assert.NoError(t, c.Close())
}
