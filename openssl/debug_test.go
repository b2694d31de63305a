// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// The debug mode names the line of the program that has made a connection, or its listener, and not
// a line of this package.
func TestDebugNamesTheProgram(t *testing.T) {
	base, log := testutil.Debugged(t, libevent.Config{Debug: true, SlowClosure: testutil.Patience})
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	_, _, line, _ := runtime.Caller(0)
	_, err := ctx.NewSocket(base, -1, 0)
	require.NoError(t, err)
	served := make(chan struct{})
	s, err := base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{NewSocket: ctx.Socket}, func(*libevent.BufferEvent) libevent.Handler {
		close(served)
		return libevent.Handler{}
	})
	require.NoError(t, err)
	stop := testutil.Background(t, base)
	testutil.Dial(t, s.Listener())
	testutil.Receive(t, served)
	stop()
	require.NoError(t, base.Free())
	assert.Regexp(t, fmt.Sprintf(`kind=BufferEvent made=\S*/openssl/debug_test.go:%d\n`, line+1), log.String())
	assert.Regexp(t, fmt.Sprintf(`kind=BufferEvent made="accepted by the listener of \S*/openssl/debug_test.go:%d"`, line+4), log.String())
	assert.Equal(t, 2, strings.Count(log.String(), "kind=BufferEvent"))
}
