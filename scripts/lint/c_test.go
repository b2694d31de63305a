// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"slices"
	"strings"
	"testing"
)

// cTree parses sources, given as pairs of a path and a text.
func cTree(t *testing.T, pairs ...string) cFiles {
	t.Helper()
	files := cFiles{}
	for i := 0; i < len(pairs); i += 2 {
		if err := files.add(pairs[i], []byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func wantFound(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("want:\n%s\ngot:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

func TestFunctionsOfC(t *testing.T) {
	f := parseC(`/* int no(void) { */
#include "a.h"
#define LOOP(x) do { \
	x; } while (0)
struct s { int (*fn)(int); } s = { .fn = value };
static const char *words[] = { "} int no(void) {", '{' };
enum { A = 1 };
int declared(void (*fn)(int));
__attribute__((noinline)) static int *first(int a, // {
	void (*fn)(int)) __attribute__((cold))
{
	if (a) {
		LOOP(called(1));
	}
	return s.member + p->other;
}
#if X
struct s *second(void) { return 0; }
#endif
`)
	if len(f.functions) != 2 {
		t.Fatalf("%d functions", len(f.functions))
	}
	first, second := f.functions[0], f.functions[1]
	if first.name != "first" || !first.static || first.first != 11 || first.last != 16 {
		t.Errorf("%+v", first)
	}
	if second.name != "second" || second.static || second.first != 18 || second.last != 18 {
		t.Errorf("%+v", second)
	}
	var called, used []string
	for _, m := range first.mentions {
		if m.called {
			called = append(called, m.name)
		} else {
			used = append(used, m.name)
		}
	}
	wantFound(t, called, "if", "LOOP", "called")
	wantFound(t, used, "a", "return", "s", "p")
	if !slices.Contains(f.globals, mention{"value", 5, false}) {
		t.Errorf("%+v", f.globals)
	}
}

func TestUnfinishedC(t *testing.T) {
	for _, source := range []string{"", "int f(void) {", "}", "/* ", "\"", "struct s {", "int f(", "#define", "struct s { int ("} {
		parseC(source).members("s") // does not panic
	}
}
