// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// BothWays runs a test with the fast path and without it. The test must read or write
// something: the base counts what the fast path did.
func BothWays(t *testing.T, test func(t *testing.T, base *libevent.Base)) {
	t.Helper()
	for _, mode := range []struct {
		name  string
		plain bool
	}{{"fast", false}, {"plain", true}} {
		t.Run(mode.name, func(t *testing.T) {
			base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: mode.plain, Priorities: 3})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, base.Free()) })
			test(t, base)
			stats := base.Stats()
			if mode.plain {
				assert.Zero(t, stats.FastReads+stats.FastWrites+stats.FastSpills)
			} else {
				assert.NotZero(t, stats.FastReads+stats.FastWrites)
			}
		})
	}
}

// UseEitherWay writes something, so that BothWays sees the fast path in use.
func UseEitherWay(t testing.TB, base *libevent.Base) {
	t.Helper()
	bev, peer := NewSocket(t, base, 0)
	OnceOnLoop(t, base, func() { _, _ = bev.WriteString("x") })
	require.NoError(t, peer.Close())
	bev.Free()
}
