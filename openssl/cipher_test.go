// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// withSystemConfig runs the calling test in another process, whose openssl.cnf has these lines
// for every SSL_CTX. It reports true in that process.
func withSystemConfig(t *testing.T, lines ...string) bool {
	t.Helper()
	const child = "GTLS_TEST_CHILD"
	if os.Getenv(child) == t.Name() {
		return true
	}
	if os.Getenv(child) != "" {
		return false
	}
	file := filepath.Join(t.TempDir(), "openssl.cnf")
	require.NoError(t, os.WriteFile(file, []byte("openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = system\n[system]\n"+
		strings.Join(lines, "\n")+"\n"), 0o600))
	steps := strings.Split(t.Name(), "/")
	for i := range steps {
		steps[i] = "^" + steps[i] + "$"
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(steps, "/"), "-test.count=1")
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+file, child+"="+t.Name())
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	return false
}

// anonymousServer is a server that has no certificate.
func anonymousServer(t *testing.T) string {
	t.Helper()
	return sServer(t, "-nocert", "-tls1_2", "-cipher", "aNULL:@SECLEVEL=0")
}

// isNoConnection expects a client to get an error from a server, and nothing else.
func isNoConnection(t *testing.T, ctx *openssl.Context, addr string) {
	t.Helper()
	conn := newSocket(t, ctx, newLoop(t), -1)
	_, events := watch(t, conn)
	require.NoError(t, conn.Connect("tcp", addr))
	what := testutil.Receive(t, events)
	assert.NotZero(t, what.what&libevent.EventError)
	assert.Error(t, what.err)
	conn.Free()
}

// A client that verifies does not connect to a server without a certificate, whatever the list of
// ciphers is.
func TestAnonymousServer(t *testing.T) {
	ca := newAuthority(t)
	for _, list := range []string{"ALL:@SECLEVEL=0", "aNULL:eNULL:ECDHE:@SECLEVEL=0", "COMPLEMENTOFALL:ALL:@SECLEVEL=0"} {
		t.Run(list, func(t *testing.T) {
			trust(t, ca, func(t *testing.T, cfg openssl.Config) {
				cfg.CipherList = list
				isNoConnection(t, client(t, &cfg), anonymousServer(t))
			})
		})
	}
	t.Run("openssl.cnf", func(t *testing.T) {
		if withSystemConfig(t, "CipherString = ALL:aNULL:eNULL:@SECLEVEL=0") {
			isNoConnection(t, client(t, &openssl.Config{RootCAs: ca.pool()}), anonymousServer(t))
		}
	})
	_, err := openssl.NewClientContext(&openssl.Config{CipherList: "aNULL:@SECLEVEL=0"})
	assert.ErrorContains(t, err, "no cipher match")
}

// The default has only forward secrecy and authenticated encryption. What else a user lists is
// there.
func TestDefaultCiphers(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issueWith(t, rsaKey(t), nil, "example.test")
	for suite, list := range map[uint16]string{
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256:       "kRSA",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:    "ECDHE",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256: "ECDHE",
	} {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			for _, list := range []string{"", list} {
				fd, peer := testutil.TCPPair(t)
				conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, CipherList: list}), newLoop(t), fd)
				_, events := watch(t, conn)
				err := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: tls.VersionTLS12,
					CipherSuites: []uint16{suite}}).Handshake()
				assert.Equal(t, list != "", err == nil, "%v", err)
				assert.Equal(t, list != "", testutil.Receive(t, events) == connected)
			}
		})
	}
}

// A server that lists DHE has the parameters for it.
func TestDHE(t *testing.T) {
	ca := newAuthority(t)
	addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issueWith(t, rsaKey(t), nil, "example.test")},
		CipherList: "DHE"}), func(conn *openssl.Conn) { echo(t, conn) })
	out := new(output)
	require.NoError(t, sClient(t, strings.NewReader(""), out, "-connect", addr.String(), "-tls1_2"), out)
	assert.Contains(t, out.String(), "Cipher is DHE-RSA-")
}

// openssl.cnf bounds the versions of a Config that does not say which it wants.
func TestVersionsOfTheSystem(t *testing.T) {
	ca := newAuthority(t)
	negotiate := func(t *testing.T, cfg openssl.Config) uint16 {
		cfg.RootCAs, cfg.ServerName = ca.pool(), "example.test"
		conn, _, _ := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
			MinVersion: tls.VersionTLS10, MaxVersion: max(cfg.MaxVersion, tls.VersionTLS12)})
		return conn.ConnectionState().Version
	}
	t.Run("MinProtocol", func(t *testing.T) {
		if withSystemConfig(t, "MinProtocol = TLSv1.3") {
			assert.Zero(t, negotiate(t, openssl.Config{}))
			assert.EqualValues(t, tls.VersionTLS12, negotiate(t, openssl.Config{MinVersion: tls.VersionTLS12}))
			_, err := openssl.NewClientContext(&openssl.Config{MaxVersion: tls.VersionTLS12})
			assert.ErrorContains(t, err, "no protocols available")
		}
	})
	t.Run("a low MinProtocol", func(t *testing.T) {
		if withSystemConfig(t, "MinProtocol = TLSv1", "CipherString = DEFAULT:@SECLEVEL=0") {
			assert.EqualValues(t, tls.VersionTLS12, negotiate(t, openssl.Config{}))
		}
	})
	t.Run("MaxProtocol", func(t *testing.T) {
		if withSystemConfig(t, "MaxProtocol = TLSv1.2") {
			conn, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}),
				&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
			require.NoError(t, err)
			require.Equal(t, connected, what)
			assert.EqualValues(t, tls.VersionTLS12, conn.ConnectionState().Version)
		}
	})
}

func TestCipherSuites(t *testing.T) {
	ca := newAuthority(t)
	for _, suite := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		version := uint16(tls.VersionTLS12)
		if suite>>8 == 0x13 {
			version = tls.VersionTLS13
		}
		conn, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: version, CipherSuites: []uint16{suite}}),
			&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
		require.NoError(t, err)
		require.Equal(t, connected, what)
		assert.Equal(t, suite, conn.ConnectionState().CipherSuite)
	}
	for name, cfg := range map[string]openssl.Config{
		"unknown":     {CipherSuites: []uint16{0xfefe}},
		"unknown 1.3": {CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256, 0x13fe}},
		"two lists":   {CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, CipherList: "ECDHE"},
		"NUL":         {CipherList: "ECDHE\x00:nonsense"},
	} {
		_, err := openssl.NewClientContext(&cfg)
		assert.ErrorIs(t, err, syscall.EINVAL, name)
	}
}

// Each suite of crypto/tls is there, or the error names it.
func TestCipherSuitesThatOpenSSLDoesNotHave(t *testing.T) {
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ctx, err := openssl.NewClientContext(&openssl.Config{CipherSuites: []uint16{suite.ID}})
		if err != nil {
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, fmt.Sprintf("%#04x, %s", suite.ID, suite.Name))
			continue
		}
		ctx.Free()
	}
}

// A server that wants another group than the client's first asks for it.
func TestCurvePreferences(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issueWith(t, rsaKey(t), nil, "example.test") // an ECDSA key would need its own curve
	for _, curve := range []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519} {
		versions(t, func(t *testing.T, version uint16) {
			var got tls.CurveID
			_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: version,
				CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, curve}}), &tls.Config{Certificates: []tls.Certificate{cert},
				CurvePreferences: []tls.CurveID{curve},
				VerifyConnection: func(s tls.ConnectionState) error { got = s.CurveID; return nil }})
			require.NoError(t, err)
			require.Equal(t, connected, what)
			assert.Equal(t, fmt.Sprint(curve), fmt.Sprint(got))
		})
	}
	_, err := openssl.NewClientContext(&openssl.Config{CurvePreferences: []tls.CurveID{1}})
	assert.ErrorIs(t, err, syscall.EINVAL)
}

// A group that only newer versions of OpenSSL or crypto/tls have is left out, and so is one that is there already.
func TestCurvesThatAreLeftOut(t *testing.T) {
	ca := newAuthority(t)
	for name, extra := range map[string]tls.CurveID{"SecP256r1MLKEM768": 4587, "SecP384r1MLKEM1024": 4589, "again": tls.CurveP384} {
		_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test",
			CurvePreferences: []tls.CurveID{tls.CurveP384, extra, tls.CurveP256}}),
			&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CurvePreferences: []tls.CurveID{tls.CurveP384}})
		assert.NoError(t, err, name)
		assert.Equal(t, connected, what, name)
	}
}
