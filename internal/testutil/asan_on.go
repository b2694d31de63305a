// SPDX-License-Identifier: BSD-3-Clause

//go:build asan

package testutil

// ASan says whether the address sanitizer is on. It allocates more, and refuses to
// allocate more memory than there is.
const ASan = true
