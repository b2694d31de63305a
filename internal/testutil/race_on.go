// SPDX-License-Identifier: BSD-3-Clause

//go:build race

package testutil

// Race says whether the race detector is on. With it everything is many times slower, and
// more is allocated.
const Race = true
