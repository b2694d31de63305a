package libevent_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-libevent/libevent"
)

// TestMain fails the run when a test has left anything behind in C.
func TestMain(m *testing.M) {
	if os.Getenv("LIBEVENT_LOCK_DEBUGGING") != "" {
		libevent.EnableLockDebugging()
	}
	code := m.Run()
	if live := libevent.Live(); live != (libevent.LiveObjects{}) {
		fmt.Printf("FAIL: objects left behind: %+v\n", live)
		code = 1
	}
	if n := libevent.StaleCallbacks(); n != libevent.StaleOnPurpose {
		fmt.Printf("FAIL: %d stale callbacks, %d made by tests\n", n, libevent.StaleOnPurpose)
		code = 1
	}
	os.Exit(code)
}

// patience bounds every wait of the tests; it is never what a passing test waits.
const patience = 30 * time.Second
