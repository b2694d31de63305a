// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-libevent/libevent"
)

func TestFlagNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"0":                                     libevent.What(0),
		"EV_READ|EV_PERSIST":                    libevent.EvRead | libevent.EvPersist,
		"EV_TIMEOUT|EV_WRITE|EV_SIGNAL|EV_ET":   libevent.EvTimeout | libevent.EvWrite | libevent.EvSignal | libevent.EvET,
		"EV_READ|0x4000":                        libevent.EvRead | 0x4000,
		"BEV_EVENT_READING|BEV_EVENT_EOF":       libevent.EventReading | libevent.EventEOF,
		"BEV_EVENT_WRITING|BEV_EVENT_TIMEOUT":   libevent.EventWriting | libevent.EventTimeout,
		"BEV_EVENT_ERROR|BEV_EVENT_CONNECTED":   libevent.EventError | libevent.EventConnected,
		"BEV_OPT_CLOSE_ON_FREE|OptLoopOnly":     libevent.OptCloseOnFree | libevent.OptLoopOnly,
		"EVLOOP_ONCE|EVLOOP_NO_EXIT_ON_EMPTY":   libevent.LoopOnce | libevent.LoopNoExitOnEmpty,
		"EV_FEATURE_ET|EV_FEATURE_O1":           libevent.FeatureET | libevent.FeatureO1,
		"EV_FEATURE_FDS|EV_FEATURE_EARLY_CLOSE": libevent.FeatureFDs | libevent.FeatureEarlyClose,
		"BEV_FINISHED":                          libevent.FlushFinished,
		"FlushMode(9)":                          libevent.FlushMode(9),
		"EVBUFFER_EOL_CRLF_STRICT":              libevent.EOLCRLFStrict,
		"EOL(-1)":                               libevent.EOL(-1),
	} {
		assert.Equal(t, want, got.String())
	}
}

func TestErrorsMatch(t *testing.T) {
	assert.ErrorIs(t, libevent.ErrClosed, net.ErrClosed)
	assert.ErrorIs(t, libevent.ErrWouldBlock, syscall.EAGAIN)
	assert.NotErrorIs(t, libevent.ErrClosed, io.EOF)
	var err error = &libevent.Error{Op: "connect", Err: syscall.ETIMEDOUT}
	assert.Equal(t, "libevent: connect: connection timed out", err.Error())
	var ne net.Error
	assert.True(t, errors.As(err, &ne))
	assert.True(t, ne.Timeout())
	assert.True(t, (&libevent.Error{Op: "x", Err: os.ErrDeadlineExceeded}).Timeout())
	assert.False(t, (&libevent.Error{Op: "x", Err: io.EOF}).Timeout())
	temporary := &libevent.Error{Op: "accept", Err: syscall.EMFILE}
	assert.True(t, temporary.Temporary())
}
