// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// site answers requests in ways that use a connection differently.
func site(t testing.TB) http.Handler {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, testutil.Noise(3<<20), 0o600))
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Proto", r.Proto)
		p, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		_, _ = w.Write(p)
	})
	mux.HandleFunc("/chunks", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 100 {
			fmt.Fprintln(w, i)
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	return mux
}

// serveHTTP runs a server on evnet and returns its URL and a client on evnet.
func serveHTTP(t testing.TB, loop libevent.Loop, change func(*httptest.Server)) (url string, client *http.Client) {
	t.Helper()
	l, err := evnet.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: site(t)}}
	if change == nil {
		server.Start()
	} else {
		change(server)
	}
	transport := &http.Transport{DialContext: (&evnet.Dialer{Loop: loop}).DialContext, ExpectContinueTimeout: testutil.Patience}
	if server.TLS != nil {
		pool := x509.NewCertPool()
		pool.AddCert(server.Certificate())
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		transport.ForceAttemptHTTP2 = true
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return server.URL, &http.Client{Transport: transport, Timeout: testutil.Patience}
}

func TestHTTP(t *testing.T) {
	for _, c := range []struct {
		name, proto string
		change      func(*httptest.Server)
	}{
		{"http", "HTTP/1.1", nil},
		{"https", "HTTP/1.1", func(s *httptest.Server) {
			s.StartTLS()
			s.TLS.NextProtos = []string{"http/1.1"}
		}},
		{"h2", "HTTP/2.0", func(s *httptest.Server) {
			s.EnableHTTP2 = true
			s.StartTLS()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, client := serveHTTP(t, running(t), c.change)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for i := range 6 {
						visit(t, client, url, c.proto, i)
					}
				})
			}
			wg.Wait()
		})
	}
}

func visit(t testing.TB, client *http.Client, url, proto string, i int) {
	want := testutil.Noise(1 + i*70_000)
	body := io.Reader(bytes.NewReader(want))
	if i%2 == 1 {
		body = struct{ io.Reader }{body} // hides the length, so it is sent in chunks
	}
	req, err := http.NewRequest(http.MethodPost, url+"/echo", body)
	if !assert.NoError(t, err) {
		return
	}
	if i%3 == 0 {
		req.Header.Set("Expect", "100-continue")
	}
	resp, got := do(t, client, req)
	if resp == nil {
		return
	}
	assert.Equal(t, proto, resp.Header.Get("Proto"))
	same(t, want, got)
	if req, err = http.NewRequest(http.MethodGet, url+"/chunks", nil); assert.NoError(t, err) {
		_, got = do(t, client, req)
		assert.Len(t, strings.Fields(string(got)), 100)
	}
	if req, err = http.NewRequest(http.MethodGet, url+"/file", nil); assert.NoError(t, err) {
		_, got = do(t, client, req)
		same(t, testutil.Noise(3<<20), got)
	}
}

func do(t testing.TB, client *http.Client, req *http.Request) (*http.Response, []byte) {
	resp, err := client.Do(req)
	if !assert.NoError(t, err) {
		return nil, nil
	}
	p, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	return resp, p
}

// A server may refuse a request before it has read the body.
func TestHTTPRefusal(t *testing.T) {
	url, client := serveHTTP(t, running(t), nil)
	req, err := http.NewRequest(http.MethodPost, url+"/refuse", bytes.NewReader(make([]byte, 16<<20)))
	require.NoError(t, err)
	req.Header.Set("Expect", "100-continue")
	resp, _ := do(t, client, req)
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// Shutdown waits for a request that is being answered, and for no idle connection.
func TestHTTPShutdown(t *testing.T) {
	base := running(t)
	l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	arrived, answer := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-answer
		_, _ = io.WriteString(w, "done")
	})}
	served := async(func() (struct{}, error) { return struct{}{}, server.Serve(l) })
	idle, err := (&evnet.Dialer{Loop: base}).Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	transport := &http.Transport{DialContext: (&evnet.Dialer{Loop: base}).DialContext}
	got := async(func() (string, error) {
		resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String())
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		p, err := io.ReadAll(resp.Body)
		return string(p), err
	})
	testutil.Receive(t, arrived)
	shut := async(func() (struct{}, error) { return struct{}{}, server.Shutdown(context.Background()) })
	assert.ErrorIs(t, testutil.Receive(t, served).err, http.ErrServerClosed)
	assert.Empty(t, shut)
	close(answer)
	assert.Equal(t, result[string]{"done", nil}, testutil.Receive(t, got))
	assert.NoError(t, idle.Close())
	assert.NoError(t, testutil.Receive(t, shut).err)
	transport.CloseIdleConnections()
	nothingLeft(t, base)
}

// When a client closes its connection, the context of its request ends.
func TestHTTPClientGoesAway(t *testing.T) {
	base := running(t)
	l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(ended)
	})}
	go func() { _ = server.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	testutil.Receive(t, ended)
	assert.NoError(t, server.Close())
}

// crypto/tls works over a Conn, in both directions at once and with CloseWrite.
func TestTLSOnTop(t *testing.T) {
	certs := certificates()
	pool := x509.NewCertPool()
	pool.AddCert(certs.Certificate())
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		client := tls.Client(a, &tls.Config{RootCAs: pool, ServerName: "example.com"})
		server := tls.Server(b, &tls.Config{Certificates: certs.TLS.Certificates})
		exchange(t, testutil.Noise(2<<20), client, server)
	})
}

// Requests may be sent before earlier answers have come, as database drivers do, and each
// has its own deadline.
func TestPipelining(t *testing.T) {
	const requests = 5000
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		go func() {
			in, out := bufio.NewReader(b), bufio.NewWriter(b)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					assert.ErrorIs(t, err, io.EOF)
					assert.NoError(t, errors.Join(out.Flush(), b.CloseWrite()))
					return
				}
				_, _ = out.WriteString("answer to " + line)
				if in.Buffered() == 0 {
					assert.NoError(t, out.Flush())
				}
			}
		}()
		go func() {
			for i := range requests {
				assert.NoError(t, a.SetWriteDeadline(time.Now().Add(testutil.Patience)))
				_, err := fmt.Fprintf(a, "question %d\n", i)
				assert.NoError(t, err)
			}
			assert.NoError(t, a.CloseWrite())
		}()
		in := bufio.NewReader(a)
		for i := range requests {
			require.NoError(t, a.SetReadDeadline(time.Now().Add(testutil.Patience)))
			line, err := in.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("answer to question %d\n", i), line)
		}
		_, err := in.ReadByte()
		assert.Equal(t, io.EOF, err)
	})
}
