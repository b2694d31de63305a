// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"os"
	"testing"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

const (
	rd = libevent.EvRead
	wr = libevent.EvWrite
)

// TestMain fails the run if a test has left an object of C's behind.
func TestMain(m *testing.M) {
	os.Exit(testutil.Main(m, &libevent.StaleOnPurpose))
}
