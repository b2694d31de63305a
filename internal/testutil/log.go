// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// Log collects messages.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// NewLog gets the messages of libevent and of the debug mode until the end of the test.
func NewLog(t testing.TB) *Log {
	t.Helper()
	l := &Log{}
	require.NoError(t, libevent.SetLogger(slog.New(slog.NewTextHandler(l, nil))))
	t.Cleanup(func() { assert.NoError(t, libevent.SetLogger(nil)) })
	return l
}

// Write appends a message.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all messages.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Debugged makes a base in debug mode, and what collects its messages. The caller frees the base.
func Debugged(t testing.TB, cfg libevent.Config) (*libevent.Base, *Log) {
	t.Helper()
	l := NewLog(t)
	base, err := libevent.NewBaseConfig(cfg)
	require.NoError(t, err)
	return base, l
}
