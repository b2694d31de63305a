//go:build !asan

package testutil

// ASan is whether the address sanitizer looks on.
const ASan = false
