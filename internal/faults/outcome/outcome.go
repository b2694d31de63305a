// SPDX-License-Identifier: BSD-3-Clause

// Package outcome has what program scenarios tells its tests.
package outcome

// Outcome is what came of one run of a scenario.
type Outcome struct {
	Error       string   // of a call or an event; empty if all went well
	Bugs        []string // wrong bytes, waiting in vain, leaks
	Allocations int      // that were counted
	CallsLeft   int      // calls of one name until the one that would have failed
}
