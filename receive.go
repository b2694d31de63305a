package libevent

/*
#include "native.h"
*/
import "C"

import "unsafe"

// SetReceiver sets what the loop calls before it reads from the socket while the input is
// empty: fn may take what came with Receive, straight to where it belongs, which saves a
// copy. What fn leaves goes to the input, and on to the read closure. That is needed all the
// same: fn is not called where libevent does the reading (see Config.PlainIO). nil is none.
// Safe for concurrent use.
func (b *BufferEvent) SetReceiver(fn func(*BufferEvent)) error {
	_, err := b.do("SetReceiver", func() C.int64_t {
		if fn != nil { // C may be about to call the old one
			b.receiver.Store(&fn)
		}
		return C.glev_bev_receiver(b.c, cBool(fn != nil))
	})
	return err
}

// Receive reads from the socket to p, within the function of SetReceiver; the read timeout
// begins anew, but watermarks do not count what never was in the input. When there is nothing
// to read, or the input is not empty, it returns ErrWouldBlock. An end or an error of the
// stream comes as an event.
// Loop goroutine only.
func (b *BufferEvent) Receive(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.do("Receive", func() C.int64_t {
		return C.glev_bev_receive(b.c, (*C.char)(unsafe.Pointer(unsafe.SliceData(p))), C.size_t(len(p)))
	})
	if n == 0 && err == nil {
		err = ErrWouldBlock
	}
	return n, err
}
