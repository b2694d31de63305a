// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// need returns the path of a program, and skips the test if it is not installed.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}

// output collects the output of a program.
type output struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}

// await waits until the program has printed text.
func (o *output) await(t testing.TB, text string) {
	t.Helper()
	testutil.Eventually(t, func() bool {
		time.Sleep(time.Millisecond) // sleep: the output has to be looked at again and again
		return strings.Contains(o.String(), text)
	}, "it says "+text)
}

// sClient runs openssl s_client with an input, against a server of this package.
func sClient(t testing.TB, input io.Reader, out *output, args ...string) error {
	t.Helper()
	cmd := exec.Command(need(t, "openssl"), append([]string{"s_client"}, args...)...)
	cmd.Stdin = input
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	stop := time.AfterFunc(testutil.Patience, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	return cmd.Wait()
}

var flagOf = map[uint16]string{tls.VersionTLS12: "-tls1_2", tls.VersionTLS13: "-tls1_3"}

func TestSClient(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := files(t, ca.issue(t, "client"))
	base := newLoop(t)
	states := make(chan openssl.ConnectionState, 100)
	addr := accept(t, base, server(t, &openssl.Config{
		Certificates: []tls.Certificate{ca.issue(t, "example.test")}, NextProtos: []string{"echo"},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCACertificates: ca.roots(),
	}), func(conn *openssl.Conn) {
		read := func(b *libevent.BufferEvent) { assert.NoError(t, b.WriteBuffer(b.Input())) }
		assert.NoError(t, conn.SetCallbacks(read, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			switch {
			case what == libevent.EventConnected:
				states <- conn.ConnectionState()
			case what&libevent.EventEOF != 0:
				assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
			default:
				b.Free()
			}
		}))
		assert.NoError(t, conn.Enable(rd))
	})
	versions(t, func(t *testing.T, version uint16) {
		say := func(t *testing.T, args ...string) string {
			// s_client ends with its input, so the input ends after the answer.
			r, w := io.Pipe()
			said := new(output)
			go func() {
				defer w.Close()
				_, _ = io.WriteString(w, "hello from s_client\n")
				testutil.Receive(t, states)
				said.await(t, "hello from s_client\n")
			}()
			err := sClient(t, r, said, append([]string{"-connect", addr.String(), flagOf[version], "-CAfile", ca.file(t),
				"-verify_return_error", "-verify_hostname", "example.test", "-servername", "example.test"}, args...)...)
			require.NoError(t, err, said)
			assert.Contains(t, said.String(), "hello from s_client\n")
			return said.String()
		}
		t.Run("plain", func(t *testing.T) {
			assert.Contains(t, say(t), "Verification: OK")
		})
		t.Run("alpn", func(t *testing.T) {
			assert.Contains(t, say(t, "-alpn", "other,echo"), "ALPN protocol: echo")
		})
		t.Run("certificate", func(t *testing.T) {
			out := say(t, "-cert", certFile, "-key", keyFile)
			assert.Contains(t, out, "Acceptable client certificate CA names")
		})
		t.Run("resumption", func(t *testing.T) {
			session := t.TempDir() + "/session"
			assert.Contains(t, say(t, "-sess_out", session), "New, ")
			assert.Contains(t, say(t, "-sess_in", session), "Reused, ")
		})
	})
}

// sServer runs openssl s_server on a free port. It sends each line back reversed.
func sServer(t testing.TB, args ...string) (addr string) {
	t.Helper()
	cmd := exec.Command(need(t, "openssl"), append([]string{"s_server", "-accept", "127.0.0.1:0", "-rev"}, args...)...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	ready, said := make(chan string, 1), &bytes.Buffer{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if on, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
				ready <- on
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return testutil.Receive(t, ready)
}

func TestSServer(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "127.0.0.1")
	certFile, keyFile := files(t, cert)
	root := ca.file(t)
	versions(t, func(t *testing.T, version uint16) {
		addr := sServer(t, flagOf[version], "-cert", certFile, "-key", keyFile, "-alpn", "reverse", "-Verify", "3", "-CAfile", root, "-verify_return_error")
		trust(t, ca, func(t *testing.T, cfg openssl.Config) {
			cfg.Certificates, cfg.NextProtos, cfg.SessionCache = []tls.Certificate{ca.issue(t, "client")}, []string{"reverse"}, 1
			ctx := client(t, &cfg)
			for i := range 3 {
				conn := newSocket(t, ctx, newLoop(t), -1)
				read, events := watch(t, conn)
				require.NoError(t, conn.Connect("tcp", addr))
				require.Equal(t, connected, testutil.Receive(t, events))
				_, err := conn.WriteString("hello\n")
				require.NoError(t, err)
				assert.Equal(t, "olleh\n", take(t, read, 6))
				state := conn.ConnectionState()
				assert.Equal(t, version, state.Version)
				assert.Equal(t, "reverse", state.NegotiatedProtocol)
				assert.Equal(t, cert.Leaf.Raw, state.PeerCertificates[0].Raw)
				assert.Equal(t, i > 0, state.DidResume)
				require.NoError(t, conn.CloseWrite())
				// s_server sends close_notify with TLS 1.2 since OpenSSL 3, and with TLS 1.3 sometimes.
				if what := testutil.Receive(t, events); version == tls.VersionTLS12 && !isOld() || what != cutOff {
					assert.Equal(t, endOfFile, what)
				}
				conn.Free()
			}
		})
	})
}

// A client can renegotiate with openssl s_server.
func TestRenegotiateWithSServer(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := files(t, ca.issue(t, "127.0.0.1"))
	args := []string{"-cert", certFile, "-key", keyFile, "-tls1_2"}
	if !isOld() { // which allows it anyway
		args = append(args, "-client_renegotiation")
	}
	addr := sServer(t, args...)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), Renegotiation: true}), newLoop(t), -1)
	read, events := watch(t, conn)
	require.NoError(t, conn.Connect("tcp", addr))
	require.Equal(t, connected, testutil.Receive(t, events))
	for range 3 {
		require.NoError(t, conn.Renegotiate())
		require.Equal(t, connected, testutil.Receive(t, events))
		_, err := conn.WriteString("hello\n")
		require.NoError(t, err)
		assert.Equal(t, "olleh\n", take(t, read, 6))
	}
}

// A client does not resume a session that has only an ID.
func TestSessionWithoutTicket(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := files(t, ca.issue(t, "127.0.0.1"))
	addr := sServer(t, "-cert", certFile, "-key", keyFile, "-tls1_2", "-no_ticket")
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: 1})
	for range 2 {
		conn := newSocket(t, ctx, newLoop(t), -1)
		read, events := watch(t, conn)
		require.NoError(t, conn.Connect("tcp", addr))
		require.Equal(t, connected, testutil.Receive(t, events))
		_, err := conn.WriteString("hello\n")
		require.NoError(t, err)
		assert.Equal(t, "olleh\n", take(t, read, 6))
		assert.False(t, conn.ConnectionState().DidResume)
		assert.Zero(t, openssl.Live().Sessions)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience)) // s_server serves one client at a time
	}
}

// A client may need many records for its certificate, also in a renegotiation.
func TestRenegotiationInSmallRecords(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := files(t, ca.issueWith(t, newKey(t), large, "client"))
	shown, lines, conns := make(chan struct{}, 10), make(chan string, 10), make(chan *openssl.Conn, 1)
	addr := serveLines(t, server(t, &openssl.Config{
		Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true,
		ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { shown <- struct{}{}; return nil },
	}), lines, conns)
	r, w := io.Pipe()
	said := new(output)
	ended := make(chan error, 1)
	go func() {
		ended <- sClient(t, r, said, "-connect", addr, "-cert", certFile, "-key", keyFile, "-maxfraglen", "512")
	}()
	testutil.Receive(t, shown)
	_, err := io.WriteString(w, "R\n")
	require.NoError(t, err)
	testutil.Receive(t, shown)
	_, err = io.WriteString(w, "hello\n")
	require.NoError(t, err)
	assert.Equal(t, "hello", testutil.Receive(t, lines), said)
	require.NoError(t, w.Close())
	assert.NoError(t, testutil.Receive(t, ended), said)
}

func TestCurl(t *testing.T) {
	curl := need(t, "curl")
	ca := newAuthority(t)
	base := newLoop(t)
	body := testutil.Noise(3 << 20)
	addr := accept(t, base, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "localhost")}, NextProtos: []string{"http/1.1"}}), func(conn *openssl.Conn) {
		assert.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
			if b.Input().Search([]byte("\r\n\r\n"), 0) < 0 {
				return
			}
			_, err := fmt.Fprintf(b, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", len(body))
			assert.NoError(t, err)
			_, err = b.Write(body)
			assert.NoError(t, err)
			assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
		}, nil, nil))
		assert.NoError(t, conn.Enable(rd))
	})
	versions(t, func(t *testing.T, version uint16) {
		max := map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}[version]
		out, err := exec.Command(curl, "-sS", "--max-time", "30", "--tls-max", max, "--cacert", ca.file(t), fmt.Sprintf("https://localhost:%d/", addr.Port)).Output()
		require.NoError(t, err)
		assert.True(t, bytes.Equal(body, out))
	})
}

// A peer may ask for new keys while it reads nothing. Then the answer waits for room in the
// socket. Meanwhile reading goes on, and the loop sleeps.
func TestKeyUpdateWithoutRoom(t *testing.T) {
	ca := newAuthority(t)
	lines, conns := make(chan string, 10), make(chan *openssl.Conn, 1)
	addr := serveLines(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), lines, conns)
	var hold sync.Mutex
	addr = holdUp(t, addr, &hold)

	input, stdin := io.Pipe()
	said, ended := new(output), make(chan error, 1)
	go func() {
		ended <- sClient(t, input, said, "-connect", addr, "-tls1_3", "-CAfile", ca.file(t))
	}()
	_, err := io.WriteString(stdin, "before\n")
	require.NoError(t, err)
	conn := testutil.Receive(t, conns)
	assert.Equal(t, "before", testutil.Receive(t, lines))
	hold.Lock()
	_, err = conn.Write(bytes.Repeat([]byte("0123456789abcde\n"), 1<<20))
	require.NoError(t, err)
	testutil.Eventually(t, func() bool {
		before := conn.Output().Len()
		time.Sleep(20 * time.Millisecond) // sleep: to see whether the output still becomes shorter
		return conn.Output().Len() == before
	}, "the socket is full")
	_, err = io.WriteString(stdin, "K\n")
	require.NoError(t, err)
	said.await(t, "KEYUPDATE") // s_client drops what it reads together with a command
	_, err = io.WriteString(stdin, "after\n")
	require.NoError(t, err)
	assert.Equal(t, "after", testutil.Receive(t, lines))
	before := testutil.CPUTime()
	time.Sleep(300 * time.Millisecond) // sleep: a loop that spins uses CPU time meanwhile
	assert.Less(t, testutil.CPUTime()-before, 100*time.Millisecond, "the loop sleeps")
	hold.Unlock()
	testutil.Eventually(t, func() bool { return conn.Output().Len() == 0 }, "all is written")
	require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
	require.NoError(t, stdin.Close())
	assert.NoError(t, testutil.Receive(t, ended), said)
}

// serveLines serves TLS on a loop of its own and hands over the connections and the lines
// that they read.
func serveLines(t *testing.T, ctx *openssl.Context, lines chan<- string, conns chan<- *openssl.Conn) (addr string) {
	t.Helper()
	return accept(t, newLoop(t), ctx, func(conn *openssl.Conn) {
		assert.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
			for line := range b.Input().Lines(libevent.EOLLF) {
				lines <- string(line)
			}
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			switch {
			case what&libevent.EventEOF != 0:
				b.Free()
			case what != libevent.EventConnected:
				assert.NoError(t, b.Err())
				b.Free()
			}
		}))
		assert.NoError(t, conn.Enable(rd))
		conns <- conn
	}).String()
}

// holdUp passes one connection on to a server, and returns where. Whoever has the lock
// holds up what goes to the client.
func holdUp(t *testing.T, to string, hold *sync.Mutex) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer server.Close()
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.(*net.TCPConn).CloseWrite()
		}()
		for p := make([]byte, 64<<10); ; {
			n, err := server.Read(p)
			hold.Lock()
			_, werr := client.Write(p[:n])
			hold.Unlock()
			if err != nil || werr != nil {
				return
			}
		}
	}()
	return ln.Addr().String()
}

// With a large group of a finite field, one message of a client would keep the loop busy for 100 ms.
func TestGroupsOfFiniteFields(t *testing.T) {
	if isOld() {
		t.Skip("OpenSSL 1.1.1 has no such groups")
	}
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for groups, accepted := range map[string]bool{"ffdhe2048": false, "ffdhe8192": false, "ffdhe8192:X25519": true} {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, ctx, newLoop(t), fd)
		_, events := watch(t, conn)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() { // s_client only connects
			if client, err := ln.Accept(); err == nil {
				go func() { _, _ = io.Copy(client, socket) }()
				_, _ = io.Copy(socket, client)
				_ = socket.CloseWrite()
			}
		}()
		said := new(output)
		err = sClient(t, strings.NewReader(""), said, "-connect", ln.Addr().String(), "-tls1_3", "-groups", groups)
		assert.Equal(t, accepted, testutil.Receive(t, events) == connected, "%s: %v", groups, err)
		assert.Equal(t, accepted, strings.Contains(said.String(), "X25519"), said)
		conn.Free()
		_ = ln.Close()
	}
}
