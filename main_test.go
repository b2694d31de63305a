package libevent_test

import (
	"os"
	"testing"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// TestMain fails the run when a test has left anything behind in C.
func TestMain(m *testing.M) {
	if os.Getenv("LIBEVENT_LOCK_DEBUGGING") != "" {
		libevent.EnableLockDebugging()
	}
	os.Exit(testutil.Main(m, &libevent.StaleOnPurpose))
}
