// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

const (
	rd = libevent.EvRead
	wr = libevent.EvWrite
)

var (
	seedFlag     = flag.Int64("seed", 0, "the seed of the run; 0 takes one from the clock")
	durationFlag = flag.Duration("duration", 0, "how long the run lasts; 0 leaves it out")
	patienceFlag = flag.Duration("patience", testutil.Patience, "how long something may make no progress")
	slotsFlag    = flag.Int("connections", 12, "how many connections there are at a time")
	kindsFlag    = flag.String("kinds", "", "the kinds of connections, or, each with a minus, those to leave out; a wrong one prints all")
	opsFlag      = flag.String("ops", "", "the same for the acts")
)

// TestMain fails the run if a test has left an object of C's behind.
func TestMain(m *testing.M) { os.Exit(testutil.Main(m, nil)) }

func duration() time.Duration { return *durationFlag }

// selection is a set of names that a flag has chosen.
type selection map[string]bool

// choose reads a flag: the names that are to be in the set, or, with a minus, not to be.
func choose(all []string, list string) (selection, error) {
	chosen := selection{}
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	all = slices.Clone(all)
	if len(names) == 0 || strings.HasPrefix(names[0], "-") {
		for _, name := range all {
			chosen[name] = true
		}
	}
	for _, name := range names {
		plain := strings.TrimPrefix(name, "-")
		if !slices.Contains(all, plain) {
			return nil, fmt.Errorf("%q is none of %s", plain, strings.Join(all, ","))
		}
		chosen[plain] = plain == name
	}
	return chosen, nil
}
