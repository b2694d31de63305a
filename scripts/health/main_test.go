// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
)

// serve listens, and gives one connection to a function.
func serve(t *testing.T, with func(net.Conn)) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		if conn, err := ln.Accept(); err == nil {
			defer conn.Close()
			with(conn)
		}
	}()
	return ln.Addr().String()
}

func TestCheck(t *testing.T) {
	assert.NoError(t, check(serve(t, func(c net.Conn) { _, _ = io.Copy(c, c) }), testutil.Patience))
	assert.ErrorContains(t, check(serve(t, func(c net.Conn) { _, _ = c.Write([]byte("no\n")) }), testutil.Patience), "echoes")
	assert.Error(t, check(serve(t, func(c net.Conn) {}), testutil.Patience), "it closes")
	assert.ErrorIs(t, check(serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), 50*time.Millisecond), os.ErrDeadlineExceeded)
	assert.Error(t, check("127.0.0.1:0", testutil.Patience), "nothing listens there")
}
