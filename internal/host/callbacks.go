package host

import "C"

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
