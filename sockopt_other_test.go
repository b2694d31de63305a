// SPDX-License-Identifier: BSD-3-Clause

//go:build !linux

package libevent_test

import "testing"

// Package syscall has no names for these options on other systems.
func wantKeepAlive(*testing.T, int, int, int, int) {}
