// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func wantKeepAlive(t *testing.T, fd, idle, interval, count int) {
	t.Helper()
	for option, want := range map[int]int{
		syscall.TCP_KEEPIDLE: idle, syscall.TCP_KEEPINTVL: interval, syscall.TCP_KEEPCNT: count,
	} {
		assert.Equal(t, want, intOption(t, fd, syscall.IPPROTO_TCP, option))
	}
}
