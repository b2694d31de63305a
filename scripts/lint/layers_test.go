// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"slices"
	"testing"
)

func TestLayers(t *testing.T) {
	table := folder{path: ".", layers: [][]string{{"low.c", "flat.c"}, {"mid.c"}, {"top.c"}}, callbacks: "on_"}
	const (
		low = "int low(void) { return 0; }\nstatic int same(void) { return 0; }\n"
		mid = "int mid(void) { return low(); }\n"
		top = "int on_it(void) { return mid() + low(); }\nint top(void) { return on_it(); }\n"
	)
	for _, c := range []struct {
		name  string
		pairs []string
		want  []string
	}{
		{"downward", []string{"low.c", low, "mid.c", mid, "top.c", top}, nil},
		{"call upward", []string{"low.c", "int low(void)\n{\n\treturn mid();\n}\n", "mid.c", mid},
			[]string{"low.c:3: mid is defined in mid.c, which is above"}},
		{"value upward", []string{"low.c", "void low(void) { set(&mid); }", "mid.c", mid},
			[]string{"low.c:1: mid is defined in mid.c, which is above"}},
		{"table of values", []string{"low.c", "static struct ops o = { .f = mid };", "mid.c", mid},
			[]string{"low.c:1: mid is defined in mid.c, which is above"}},
		{"same layer", []string{"low.c", low, "flat.c", "int flat(void) { return low(); }"},
			[]string{"flat.c:1: low is defined in low.c, which is in the same layer"}},
		{"callback as a value", []string{"low.c", "void low(void) { set(on_it); }", "top.c", top}, nil},
		{"call of a callback", []string{"low.c", "void low(void) { on_it(); }", "top.c", top},
			[]string{"low.c:1: on_it is defined in top.c, which is above"}},
		{"own function of that name", []string{"low.c", "static int mid(void) { return 0; }\nint low(void) { return mid(); }", "mid.c", mid}, nil},
		{"another file's static", []string{"low.c", low, "flat.c", "void flat(void) { same(); }"}, nil},
		{"member of that name", []string{"low.c", "void low(struct mid *p) { p->mid = 1; }", "mid.c", mid}, nil},
		{"declaration", []string{"low.c", "int mid(void);", "mid.c", mid}, nil},
		{"comment", []string{"low.c", "/* mid() */ void low(void) { say(\"mid()\"); }", "mid.c", mid}, nil},
		{"macro of a header", []string{"a.h", "#define TWICE(x) \\\n\t(mid() + (x))\n#define OUTER(x) TWICE(x)\n", "low.c", "void low(void) { OUTER(1); }", "mid.c", mid},
			[]string{"low.c:1: mid (through TWICE) is defined in mid.c, which is above"}},
		{"macro that nobody uses", []string{"a.h", "#define TWICE(x) (mid() + (x))\n", "low.c", low, "mid.c", mid}, nil},
		{"macro that names itself", []string{"a.h", "#define f(x) (f(x) + mid())\n", "low.c", "void low(void) { f(1); }", "mid.c", mid},
			[]string{"low.c:1: mid (through f) is defined in mid.c, which is above"}},
		{"function of a header", []string{"a.h", "static inline int twice(void) { return mid(); }\n", "low.c", "void low(void) { twice(); }", "mid.c", mid},
			[]string{"low.c:1: mid (through twice) is defined in mid.c, which is above"}},
		{"no place", []string{"new.c", "void f(void) { top(); }", "top.c", top},
			[]string{"new.c:1: the file has no place in the table of layers in scripts/lint/layers.go"}},
		{"other folder", []string{"x/low.c", "int low(void) { return mid(); }", "mid.c", mid}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantFound(t, table.check(cTree(t, c.pairs...)), c.want...)
		})
	}
}

// TestTable keeps a file from having two places.
func TestTable(t *testing.T) {
	for _, f := range layered {
		all := slices.Concat(f.layers...)
		for i, file := range all {
			if slices.Contains(all[:i], file) {
				t.Errorf("%s is in two layers of %s", file, f.path)
			}
		}
	}
}
