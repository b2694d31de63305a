// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// NewDNSBase makes a resolver.
func NewDNSBase(t testing.TB, base *libevent.Base, cfg libevent.DNSConfig) *libevent.DNSBase {
	t.Helper()
	dns, err := base.NewDNSBase(cfg)
	require.NoError(t, err)
	return dns
}
