// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestLengths(t *testing.T) {
	l := limits{lines: 3}
	const four = "(void)\n{\n\n\n}\n"
	wantFound(t, l.check(cTree(t, "a.c", "int f"+four, "x/y.c", "static int g"+four, "z.c", "int h(void)\n{\n\n}\n",
		"benchmarks/b.c", "int f"+four, "examples/x/e.c", "int f"+four, "h.h", "int f"+four)),
		"a.c:2: f has 4 lines, which is more than 3", "x/y.c:2: g has 4 lines, which is more than 3")
}

func TestGuarded(t *testing.T) {
	files := cTree(t, "settle.c", "void f(void) { enable(); }", "bev.c", "void made(void) { enable(); }\nvoid g(void) { enable(); }\n",
		"x/bev.c", "void g(void) { enable(); }")
	l := limits{lines: 9, guards: []guard{{[]string{"enable"}, []caller{
		{"settle.c", "", "it settles"}, {"bev.c", "made", "nothing is known yet"},
	}}}}
	wantFound(t, l.check(files), "bev.c:2: g may not call enable: see the guards in scripts/lint/limits.go")
}

func TestMembers(t *testing.T) {
	files := cTree(t, "a.h", `struct other { int a, b, c, d, e, f, g, h, i, j, k; };
struct bev {
	struct bufferevent *bev;           /* 1 */
	struct buf in, out;                /* 2, 3 */
	int8_t narrow : 1, wide : 7;       /* 4, 5 */
	void (*fn)(int, struct bev *b), *p; /* 6, 7 */
	struct { int a, b; } owed;         /* 8 */
	union { int x; struct { int y, z; }; }; /* 9, 10, 11 */
	char room[2 * (3)];                /* 12 */
	struct list { struct list *next; } *list; /* 13 */
};
`)
	l := limits{members: map[string]int{"bev": 13}}
	if line, names := files["a.h"].members("bev"); line != 2 {
		t.Error(line)
	} else {
		wantFound(t, names, "bev", "in", "out", "narrow", "wide", "fn", "p", "owed", "x", "y", "z", "room", "list")
	}
	wantFound(t, l.check(files))
	l.members["bev"] = 12
	wantFound(t, l.check(files), "a.h:2: struct bev has 13 members, which is more than 12")
	l.members = map[string]int{"gone": 12}
	wantFound(t, l.check(files), "scripts/lint/limits.go:1: there is no struct gone")
}

func TestTreeOfC(t *testing.T) {
	long := &fstest.MapFile{Data: []byte("int f(void)\n{\n" + strings.Repeat("\n", limited.lines) + "}\n")}
	found, err := lintTree(fstest.MapFS{"x/a.c": long, ".x/a.c": long, "x/a.h": long})
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "x/a.c:2: f has") {
		t.Errorf("%q, %v", found, err)
	}
}
