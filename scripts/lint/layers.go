// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// folder says how the C files of a folder depend on each other.
type folder struct {
	path string
	// layers are the files, lowest layer first. A file calls functions of lower layers only.
	layers [][]string
	// callbacks is how the functions begin that libevent calls. They are on top, and what
	// only hands the address of one to libevent does not depend on it.
	callbacks string
}

// layered are the folders that have layers.
var layered = []folder{{
	path: ".",
	layers: [][]string{
		{"sockaddr.c", "log.c", "block.c"},
		{"thread.c"},
		{"due.c", "later.c"},
		{"base.c", "event.c"},
		{"bypass.c"},
		{"lend.c", "sockopt.c"},
		{"buffercallback.c", "reference.c", "stall.c"},
		{"settle.c"},
		{"evbuffer.c"},
		{"fastpath.c", "filesegment.c", "ratelimit.c", "connect.c"},
		{"shut.c"},
		{"flush.c"},
		{"close.c"},
		{"bufferevent.c", "listener.c", "dns.c", "inspect.c"},
		{"filter.c"},
		{"adopt.c"},
		{"callbacks.c"},
	},
	callbacks: "glev_on_",
}}

// check reports every use of a function that is not defined in a lower layer.
func (f *folder) check(files cFiles) (found []string) {
	level := map[string]int{} // 1 for the lowest layer
	for i, layer := range f.layers {
		for _, file := range layer {
			level[path.Join(f.path, file)] = i + 1
		}
	}
	sources := files.in(f.path, ".c")
	owner := map[string]string{} // of a function, the file that defines it
	for _, file := range sources {
		if level[file] == 0 {
			found = append(found, file+":1: the file has no place in the table of layers in scripts/lint/layers.go")
		}
		for _, fn := range files[file].functions {
			if !fn.static {
				owner[fn.name] = file
			}
		}
	}
	for _, from := range sources {
		for _, use := range files.uses(f.path, from) {
			to, ok := owner[use.name]
			switch {
			case !ok || to == from || level[from] == 0 || level[to] == 0 || level[to] < level[from]:
			case strings.HasPrefix(use.name, f.callbacks) && !use.called:
			case level[to] == level[from]:
				found = append(found, fmt.Sprintf("%s:%d: %s is defined in %s, which is in the same layer", from, use.line, use.how(), to))
			default:
				found = append(found, fmt.Sprintf("%s:%d: %s is defined in %s, which is above", from, use.line, use.how(), to))
			}
		}
	}
	return found
}

// use is a mention, perhaps in a macro or a function of a header.
type use struct {
	mention
	through string // the macro's name, or ""
}

func (u use) how() string {
	if u.through != "" {
		return fmt.Sprintf("%s (through %s)", u.name, u.through)
	}
	return u.name
}

// uses returns what a source mentions that is not its own, with what the macros and the
// functions of headers mention that it uses.
func (files cFiles) uses(folder, source string) (found []use) {
	f := files[source]
	bodies := map[string][]mention{} // of macros and functions of headers
	for _, file := range append(files.in(folder, ".h"), source) {
		for name, tokens := range files[file].macros {
			bodies[name] = mentions(tokens)
		}
		for _, fn := range files[file].functions {
			if file != source {
				bodies[fn.name] = fn.mentions
			}
		}
	}
	var expand func(m mention, through string, inside []string)
	expand = func(m mention, through string, inside []string) {
		body, ok := bodies[m.name]
		if !ok {
			found = append(found, use{m, through})
			return
		}
		if slices.Contains(inside, m.name) {
			return
		}
		for _, inner := range body {
			inner.line = m.line
			expand(inner, m.name, append(inside, m.name))
		}
	}
	own := map[string]bool{}
	all := slices.Clone(f.globals)
	for _, fn := range f.functions {
		own[fn.name] = true
		all = append(all, fn.mentions...)
	}
	for _, m := range all {
		if !own[m.name] {
			expand(m, "", nil)
		}
	}
	return found
}
