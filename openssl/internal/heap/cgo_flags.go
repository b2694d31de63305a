// SPDX-License-Identifier: BSD-3-Clause

package heap

// #cgo pkg-config: libcrypto
import "C"
