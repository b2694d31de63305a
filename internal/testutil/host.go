// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/host"
)

// NewHost makes a C program with an event_base, and a Base that wraps that event_base. Both
// are freed at the end of the test.
func NewHost(t testing.TB, cfg libevent.WrapConfig) (*host.Host, *libevent.Base) {
	t.Helper()
	h := host.New(!cfg.NoLocks)
	base, err := libevent.WrapBase(h.Base(), cfg)
	require.NoError(t, err)
	assert.Equal(t, h.Base(), base.Pointer())
	t.Cleanup(func() {
		assert.NoError(t, base.Free())
		h.Stop()
		for range 20 { // a DNSBase leaves work for some turns
			h.Turn()
		}
		h.Free()
	})
	return h, base
}

// WithAndWithoutLocks runs a test for a base of C's that has locks, and for one that has
// none.
func WithAndWithoutLocks(t *testing.T, test func(t *testing.T, cfg libevent.WrapConfig)) {
	t.Helper()
	t.Run("locks", func(t *testing.T) { test(t, libevent.WrapConfig{}) })
	t.Run("no locks", func(t *testing.T) { test(t, libevent.WrapConfig{NoLocks: true}) })
}
