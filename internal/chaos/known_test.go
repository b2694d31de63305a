// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import "slices"

// known is what is known to fail, and is left out until it is mended. With -known it is done, too.
// Whoever mends one deletes its line, and what the compiler then complains of.
const (
	// A timeout has passed and is due to be told, and its event is added again: libevent drops the
	// timeout, and does not register the event.
	timeoutRestarts known = "timeouts"
	// FreeAfterFlush closes a TCP socket with nothing unread as soon as the kernel has all bytes.
	// If the peer says something later, the kernel resets the connection, and drops what the peer
	// has not got.
	peerSpeaksLater known = "all bytes after FreeAfterFlush on TCP, with a peer that has not ended"
	// A direction of a filter is off, bytes wait for it, and another filter is put on. libevent
	// enables the lower one, but the bytes do not move.
	filterOnDisabled known = "a filter on a filter with a direction off"
	// A high mark comes between the read of the bufferevent below and the moment when a filter takes
	// that, and the input of the filter is at the mark already. When it is drained, what is below
	// does not come up.
	lateHighMark known = "high marks of reading of filters"
	// Flush(EvRead) moves bytes into the input of a filter, and nobody is told.
	flushReads known = "Flush of the reading direction of a filter"
	// FreeAfterFlush of a filter drops what the peer still sends, but READ below the filter is off.
	discardsBelow known = "FreeAfterFlush of a filter with READ off below"
	// A filter function that finds a buffer lent fails, and its stream with it.
	filterFindsLoan known = "a filter on a bufferevent with a buffer that is lent"
	// A filter on a pair is told of the end before the last bytes.
	filterOnPairEnds known = "the end of a stream through a filter on a pair"
)

type known string

// avoids reports whether something is left out.
func (w *world) avoids(known) bool { return !*knownFlag }

// excluded reports whether connections of a shape are left out.
func (w *world) excluded(s shape) bool {
	return w.avoids(filterOnPairEnds) && s.bottom == "pair" && len(s.layers) > 0 && !slices.Contains(s.layers, "tlsfilter")
}
