package main_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = time.Minute

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "https")
	if err == nil {
		binary = filepath.Join(dir, "https")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Printf("%s", out)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Println(err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// start runs the program and gives the address that it listens on. At the end of the test
// it is told to end, and does so without an error.
func start(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		assert.NoError(t, cmd.Wait())
		stop.Stop()
		if t.Failed() {
			t.Log(errs.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, addr, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	return addr
}

// certificate makes one for localhost, which is its own root, as files.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	return certFile, keyFile, pool
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	certFile, keyFile, _ := certificate(t)
	addr := start(t, "-addr", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	url := "https://" + strings.Replace(addr, "127.0.0.1", "localhost", 1) + "/"
	for version, want := range map[string]string{"1.2": "Hello over TLS 1.2 with TLS_", "1.3": "Hello over TLS 1.3 with TLS_"} {
		out, err := exec.Command(curl, "-sS", "--max-time", "30", "--cacert", certFile, "--tls-max", version, url, url).CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, 2, strings.Count(string(out), want), string(out))
	}
	// Whom nobody vouches for curl does not talk to.
	assert.Error(t, exec.Command(curl, "-sS", "--max-time", "30", url).Run())
}

func TestOwnCertificate(t *testing.T) {
	addr := start(t, "-addr", "127.0.0.1:0")
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: patience}
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

// A request without an end is refused, and one that asks for the end gets it.
func TestRequests(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	addr := start(t, "-addr", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nConnection: close\r\n\r\n":     "HTTP/1.1 200 ",
		"GET / HTTP/1.1\r\n" + strings.Repeat("X", 20000): "HTTP/1.1 431 ",
	} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(answer), want), string(answer))
		_ = conn.Close() // to a server that has closed already there is no way to say so
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-cert", "x"}, {"extra"}, {"-cert", "/none", "-key", "/none"}, {"-addr", "nowhere"}} {
		assert.Error(t, exec.Command(binary, args...).Run(), "%v", args)
	}
}
