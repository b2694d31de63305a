// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// FreeAfterFlush before the end of a verification waits for it, and then sends what was written.
func TestFlushWhileVerifying(t *testing.T) {
	waiting(t, func(t *testing.T, conn *openssl.Conn, slow *slowly, failed <-chan error, peer *tls.Conn) {
		watch(t, conn)
		testutil.Receive(t, slow.called)
		_, err := conn.WriteString("from us")
		require.NoError(t, err)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		close(slow.may)
		require.NoError(t, testutil.Receive(t, failed))
		got, err := io.ReadAll(peer)
		require.NoError(t, err)
		assert.Equal(t, "from us", string(got))
	})
}
