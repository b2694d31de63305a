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
	dir, err := os.MkdirTemp("", "proxy")
	if err == nil {
		binary = filepath.Join(dir, "proxy")
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

// target serves on loopback, over TLS if cfg is not nil.
func target(t *testing.T, cfg *tls.Config, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			if cfg != nil {
				conn = tls.Server(conn, cfg)
			}
			go func() {
				handle(conn)
				_ = conn.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// Each way of plain and TLS: what is sent comes back, all of it, after the sender's end.
func TestEachWay(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	much := make([]byte, 8<<20)
	_, err = rand.Read(much)
	require.NoError(t, err)
	for _, tlsIn := range []bool{false, true} {
		for _, tlsOut := range []bool{false, true} {
			t.Run(fmt.Sprintf("in %v, out %v", tlsIn, tlsOut), func(t *testing.T) {
				var cfg *tls.Config
				if tlsOut {
					cfg = &tls.Config{Certificates: []tls.Certificate{cert}}
				}
				// It answers only when it has got the end: no side may be cut short.
				to := target(t, cfg, func(conn net.Conn) {
					p, err := io.ReadAll(conn)
					assert.NoError(t, err)
					_, err = conn.Write(p)
					assert.NoError(t, err)
				})
				args := []string{"-listen", "127.0.0.1:0", "-to", strings.Replace(to, "127.0.0.1", "localhost", 1)}
				if tlsIn {
					args = append(args, "-cert", certFile, "-key", keyFile)
				}
				if tlsOut {
					args = append(args, "-tls", "-ca", certFile)
				}
				addr := start(t, args...)
				var conn halfCloser
				if tlsIn {
					conn, err = tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
				} else {
					var c net.Conn
					c, err = net.Dial("tcp", addr)
					conn, _ = c.(*net.TCPConn)
				}
				require.NoError(t, err)
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
				_, err = conn.Write(much)
				require.NoError(t, err)
				require.NoError(t, conn.CloseWrite())
				got, err := io.ReadAll(conn)
				require.NoError(t, err)
				assert.True(t, bytes.Equal(much, got), "%d bytes of %d", len(got), len(much))
			})
		}
	}
}

// A target whose certificate is nobody's is not talked to: the client sees the end.
func TestUntrustedTarget(t *testing.T) {
	certFile, keyFile, _ := certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	to := target(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(conn net.Conn) {
		p, _ := io.ReadAll(conn)
		assert.Empty(t, p)
	})
	other, _, _ := certificate(t)
	addr := start(t, "-listen", "127.0.0.1:0", "-to", to, "-tls", "-ca", other)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write([]byte("secret"))
	require.NoError(t, err)
	got, _ := io.ReadAll(conn)
	assert.Empty(t, got)
}

// A client that reads nothing does not fill the proxy: the target cannot write on.
func TestBackPressure(t *testing.T) {
	written := make(chan int, 1)
	to := target(t, nil, func(conn net.Conn) {
		_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
		n, _ := conn.Write(make([]byte, 256<<20))
		written <- n
	})
	certFile, keyFile, pool := certificate(t)
	addr := start(t, "-listen", "127.0.0.1:0", "-to", to, "-cert", certFile, "-key", keyFile)
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
	require.NoError(t, err)
	defer conn.Close()
	assert.Less(t, <-written, 64<<20)
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"-to", "nowhere"}, {"-to", "a:b"}, {"-to", "a:1", "-cert", "x"}, {"-to", "a:1", "-ca", "x"},
		{"-to", "a:1", "extra"}, {"-to", "a:1", "-tls", "-ca", "/none"}, {"-to", "a:1", "-cert", "/none", "-key", "/none"}} {
		assert.Error(t, exec.Command(binary, args...).Run(), "%v", args)
	}
}
