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
	// long are the functions that are longer and are still to be cut.
	long []string
	// guarded are functions of libevent that the callers call, and nothing else in the root.
	// While there are no callers, there is no such rule.
	guarded []string
	callers []caller
	// members is how many members a struct of the root may have.
	members map[string]int
}

// caller is a function that may call the guarded ones, or with no name a whole file.
type caller struct{ file, function, reason string }

var limited = limits{
	lines: 45,
	long:  []string{"glev_bev_quiet", "glev_fast_read", "glev_on_bev_event"},
	// What libevent has enabled follows from what the user wants and from what keeps it off.
	// One place brings the two in line, and no other place can forget a reason.
	guarded: []string{"bufferevent_enable", "bufferevent_disable", "bufferevent_setwatermark"},
	callers: []caller{},
	members: map[string]int{},
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
			n, excused := fn.last-fn.first+1, slices.Contains(l.long, fn.name)
			if n > l.lines && !excused {
				found = append(found, fmt.Sprintf("%s:%d: %s has %d lines, which is more than %d", file, fn.first, fn.name, n, l.lines))
			} else if n <= l.lines && excused {
				found = append(found, fmt.Sprintf("%s:%d: %s has become short: remove its name from scripts/lint/limits.go", file, fn.first, fn.name))
			}
		}
	}
	return found
}

func (l *limits) checkCalls(files cFiles) (found []string) {
	if len(l.callers) == 0 {
		return nil
	}
	for _, file := range files.in(".", ".c") {
		for _, fn := range files[file].functions {
			if l.mayCall(file, fn.name) {
				continue
			}
			for _, m := range fn.mentions {
				if slices.Contains(l.guarded, m.name) {
					found = append(found, fmt.Sprintf("%s:%d: %s may not call %s: see the callers in scripts/lint/limits.go", file, m.line, fn.name, m.name))
				}
			}
		}
	}
	return found
}

func (l *limits) mayCall(file, function string) bool {
	return slices.ContainsFunc(l.callers, func(c caller) bool {
		return c.file == file && (c.function == "" || c.function == function)
	})
}

func (l *limits) checkMembers(files cFiles) (found []string) {
	for _, tag := range slices.Sorted(maps.Keys(l.members)) {
		defined := false
		for _, file := range append(files.in(".", ".h"), files.in(".", ".c")...) {
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
