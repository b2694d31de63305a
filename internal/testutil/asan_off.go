// SPDX-License-Identifier: BSD-3-Clause

//go:build !asan

package testutil

// ASan says whether the address sanitizer is on.
const ASan = false
