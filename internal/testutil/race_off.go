//go:build !race

package testutil

// Race is whether the race detector looks on.
const Race = false
