// SPDX-License-Identifier: BSD-3-Clause

package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
)

var binary string

func TestMain(m *testing.M) { os.Exit(testutil.MainWithProgram(m, &binary, testutil.BuildGo)) }

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	certFile, keyFile, _ := testutil.Certificate(t)
	addr := testutil.Serve(t, binary, "-addr", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	url := "https://" + strings.Replace(addr, "127.0.0.1", "localhost", 1) + "/"
	for version, want := range map[string]string{"1.2": "Hello over TLS 1.2 with TLS_", "1.3": "Hello over TLS 1.3 with TLS_"} {
		out, err := exec.Command(curl, "-sS", "--max-time", "30", "--cacert", certFile, "--tls-max", version, url, url).CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, 2, strings.Count(string(out), want), string(out))
	}
	// Without --cacert curl does not trust the certificate.
	assert.Error(t, exec.Command(curl, "-sS", "--max-time", "30", url).Run())
}

func TestOwnCertificate(t *testing.T) {
	addr := testutil.Serve(t, binary, "-addr", "127.0.0.1:0")
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: testutil.Patience}
	defer client.CloseIdleConnections()
	for range 3 {
		answer, err := client.Get("https://" + addr)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		assert.Contains(t, string(body), "Hello over TLS 1.3")
	}
}

// When the files have changed, the next client gets the new certificate. While they do not fit
// together, clients get the old one.
func TestReload(t *testing.T) {
	certFile, keyFile, pool := testutil.Certificate(t)
	addr := testutil.Serve(t, binary, "-addr", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	dial := func(pool *x509.CertPool) error {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	require.NoError(t, dial(pool))
	newCert, newKey, newPool := testutil.Certificate(t)
	for i, file := range []string{newCert, newKey} {
		to := []string{certFile, keyFile}[i]
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, data, 0o600))
		later := time.Now().Add(time.Duration(i+1) * time.Minute) // also where files have coarse times
		require.NoError(t, os.Chtimes(to, later, later))
		assert.Equal(t, i == 0, dial(pool) == nil)
		assert.Equal(t, i == 1, dial(newPool) == nil)
	}
}

// The server refuses a request whose head is too long, and closes a connection when the
// request asks for that.
func TestRequests(t *testing.T) {
	certFile, keyFile, pool := testutil.Certificate(t)
	addr := testutil.Serve(t, binary, "-addr", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nConnection: close\r\n\r\n":     "HTTP/1.1 200 ",
		"GET / HTTP/1.1\r\n" + strings.Repeat("X", 20000): "HTTP/1.1 431 ",
	} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(answer), want), string(answer))
		_ = conn.Close() // it fails: the server has closed already and takes no close_notify
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-cert", "x"}, {"extra"}, {"-cert", "/none", "-key", "/none"}, {"-addr", "nowhere"}} {
		assert.Error(t, exec.Command(binary, args...).Run(), "%v", args)
	}
}
