// SPDX-License-Identifier: BSD-3-Clause

package host

import "C"

// hostCalled makes the calls that are due, on the loop's thread.
//
//export hostCalled
func hostCalled(handle C.int) {
	mu.Lock()
	h := hosts[int(handle)]
	calls := h.calls
	h.calls = nil
	mu.Unlock()
	for _, fn := range calls {
		fn()
	}
}
