// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// The debug mode names the lines of the program that call Dial and Accept, and not lines of this
// package.
func TestDebugNamesTheProgram(t *testing.T) {
	base, log := testutil.Debugged(t, libevent.Config{Debug: true, SlowClosure: testutil.Patience})
	stop := testutil.Background(t, base)
	l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, _, line, _ := runtime.Caller(0)
	_, err = (&evnet.Dialer{Loop: base}).Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = l.Accept()
	require.NoError(t, err)
	stop()
	require.NoError(t, base.Free())
	assert.Regexp(t, fmt.Sprintf(`kind=BufferEvent made=\S*/evnet/debug_test.go:%d\n`, line+1), log.String())
	assert.Regexp(t, fmt.Sprintf(`kind=BufferEvent made=\S*/evnet/debug_test.go:%d\n`, line+3), log.String())
	assert.Equal(t, 2, strings.Count(log.String(), "kind=BufferEvent"))
}
