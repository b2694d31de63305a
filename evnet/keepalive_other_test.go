// SPDX-License-Identifier: BSD-3-Clause

//go:build !linux

package evnet_test

// Not every other system has names for the times of keep-alive.
var keepAliveOptions [][2]int
