//go:build !asan

package testutil

// ASan says whether the address sanitizer is on.
const ASan = false
