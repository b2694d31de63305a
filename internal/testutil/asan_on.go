//go:build asan

package testutil

// ASan is whether the address sanitizer looks on: it allocates more, and refuses to allocate
// what there is not.
const ASan = true
