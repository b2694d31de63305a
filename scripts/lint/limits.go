// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// limits are the rules of single C functions and structs.
type limits struct {
	// lines is how long a function may be, from its opening brace to its closing brace.
	lines int
	// guards are functions of libevent that only a few files of the root call.
	guards []guard
	// members is how many members a struct of the root may have.
	members map[string]int
}

// guard are functions of libevent, and those that may call them.
type guard struct {
	functions []string
	callers   []caller
}

// caller is a function that may call the guarded ones, or with no name a whole file.
type caller struct{ file, function, reason string }

var limited = limits{
	lines: 45,
	guards: []guard{{
		// What libevent has enabled follows from what the user wants and from what keeps it
		// off. One file brings the two in line, and no other file can forget a reason.
		functions: []string{"bufferevent_enable", "bufferevent_disable", "bufferevent_setwatermark"},
		callers:   []caller{{"settle.c", "", "it derives what is on from the record"}},
	}, {
		// The helpers of bev.h and base.h take locks in the right order.
		functions: []string{"evbuffer_lock", "evbuffer_unlock", "bufferevent_lock", "bufferevent_unlock"},
		callers:   []caller{{"adopt.c", "glev_adopt", "the bufferevent has no record yet"}, {"lend.c", "", "it has the lock of a buffer"}},
	}},
	members: map[string]int{"glev_bev": 20},
}

func (l *limits) check(files cFiles) []string {
	return slices.Concat(l.checkLengths(files), l.checkCalls(files), l.checkMembers(files))
}

// examples are the folders whose C shows how others write a server.
var examples = []string{"benchmarks/", "examples/"}

func (l *limits) checkLengths(files cFiles) (found []string) {
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(file) != ".c" || slices.ContainsFunc(examples, func(dir string) bool { return strings.HasPrefix(file, dir) }) {
			continue
		}
		for _, fn := range files[file].functions {
			if n := fn.last - fn.first + 1; n > l.lines {
				found = append(found, fmt.Sprintf("%s:%d: %s has %d lines, which is more than %d", file, fn.first, fn.name, n, l.lines))
			}
		}
	}
	return found
}

func (l *limits) checkCalls(files cFiles) (found []string) {
	for _, file := range files.in(".", ".c") {
		for _, fn := range files[file].functions {
			for _, m := range fn.mentions {
				if l.forbids(file, fn.name, m.name) {
					found = append(found, fmt.Sprintf("%s:%d: %s may not call %s: see the guards in scripts/lint/limits.go", file, m.line, fn.name, m.name))
				}
			}
		}
	}
	return found
}

func (l *limits) forbids(file, function, called string) bool {
	for _, g := range l.guards {
		if slices.Contains(g.functions, called) && !slices.ContainsFunc(g.callers, func(c caller) bool {
			return c.file == file && (c.function == "" || c.function == function)
		}) {
			return true
		}
	}
	return false
}

func (l *limits) checkMembers(files cFiles) (found []string) {
	for _, tag := range slices.Sorted(maps.Keys(l.members)) {
		sources := append(files.in(".", ".h"), files.in(".", ".c")...)
		defined := len(sources) == 0
		for _, file := range sources {
			line, names := files[file].members(tag)
			defined = defined || line > 0
			if len(names) > l.members[tag] {
				found = append(found, fmt.Sprintf("%s:%d: struct %s has %d members, which is more than %d", file, line, tag, len(names), l.members[tag]))
			}
		}
		if !defined {
			found = append(found, fmt.Sprintf("scripts/lint/limits.go:1: there is no struct %s", tag))
		}
	}
	return found
}
