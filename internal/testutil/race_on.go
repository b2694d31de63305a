//go:build race

package testutil

// Race is whether the race detector looks on: all is many times slower then, and more is
// allocated.
const Race = true
