// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"strings"
	"testing"
	"testing/fstest"
)

const (
	undocumented = "has no doc comment"
	silent       = "which goroutines"
	goexit       = "inside a callback"
	sleep        = "time.Sleep"
)

// inTest makes a test file of statements.
func inTest(statements string) string { return "package p\nfunc f() {\n" + statements + "\n}\n" }

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name, path, source string
		want               string // part of the one violation, or nothing
	}{
		{"export", "a.go", "package p\n//export f\nfunc f() {}", "a.go:2: //export"},
		{"export in a test", "a_test.go", "package p\n//export f\nfunc f() {}", "//export"},
		{"export elsewhere below", "x/y.go", "package p\n//export f\nfunc f() {}", "//export"},
		{"export in its place", "callbacks.go", "package p\n//export f\nfunc f() {}", ""},
		{"export in its place below", "x/callbacks.go", "package p\n//export f\nfunc f() {}", ""},
		{"talk of export", "a.go", "package p\n// export is a word\nfunc f() {}", ""},

		{"cgo", "a.go", "package p\n/*\n#cgo LDFLAGS: -lm\n*/\nimport \"C\"", "#cgo"},
		{"cgo by lines", "a.go", "package p\n// #cgo LDFLAGS: -lm\nimport \"C\"", "a.go:2: #cgo"},
		{"cgo elsewhere below", "x/y.go", "package p\n// #cgo LDFLAGS: -lm\nimport \"C\"", "#cgo"},
		{"cgo in its place", "cgo_flags_linux.go", "package p\n// #cgo LDFLAGS: -lm\nimport \"C\"", ""},
		{"cgo in its place below", "x/cgo_flags.go", "package p\n// #cgo LDFLAGS: -lm\nimport \"C\"", ""},

		{"pointer", "a.go", "package p\nimport x \"github.com/mattn/go-pointer\"", "handle.go only"},
		{"pointer in its place", "handle.go", "package p\nimport x \"github.com/mattn/go-pointer\"", ""},

		{"bare function", "a.go", "package p\nfunc F() {}", undocumented},
		{"bare method", "a.go", "package p\nfunc (t *T[K]) M() {}", undocumented},
		{"directive as doc", "a.go", "package p\n//go:noinline\nfunc F() {}", undocumented},
		{"function", "a.go", "package p\n// F is.\nfunc F() {}", ""},
		{"silent method", "a.go", "package p\n// M is.\nfunc (t T) M() {}", silent},
		{"method", "a.go", "package p\n// M is. Safe for\n// concurrent use.\nfunc (t T) M() {}", ""},
		{"method of a type that tells", "a.go", "package p\n// T is. Its methods are safe for\n// concurrent use.\ntype T int\n// M is.\nfunc (t *T) M() {}", ""},
		{"method of a group that tells", "a.go", "package p\n// Safe for concurrent use.\ntype (\nT[K any] int\n)\n// M is.\nfunc (t T[K]) M() {}", ""},
		{"method beside a type that tells", "a.go", "package p\n// U is. Safe for concurrent use.\ntype U int\n// M is.\nfunc (t T) M() {}", silent},
		{"loop method", "a.go", "package p\n// M is. Loop goroutine only.\nfunc (t T) M() {}", ""},
		{"known method", "a.go", "package p\nfunc (t T) String() string { return `` }", ""},
		{"method of an inner type", "a.go", "package p\nfunc (t *t) M() {}", ""},
		{"inner function", "a.go", "package p\nfunc f() {}", ""},
		{"function of a test", "a_test.go", "package p\nfunc TestF() {}", ""},
		{"function of evnet", "evnet/a.go", "package p\nfunc F() {}", undocumented},
		{"function below", "x/a.go", "package p\nfunc F() {}", ""},

		{"require", "a_test.go", inTest("b.SetCallbacks(nil, func() { require.True(t, x) }, nil)"), "a_test.go:3: require.True ends"},
		{"require in an argument", "a_test.go", inTest("check(l.SetErrorFunc(func() { if x { require.True(t, x) } }))"), goexit},
		{"require further in", "a_test.go", inTest("b.Post(func() { b.Post(func() { require.True(t, x) }) })"), goexit},
		{"require on another goroutine", "a_test.go", inTest("b.NewTimer(func() { go func() { require.True(t, x) }() })"), goexit},
		{"Fatal", "a_test.go", inTest("b.Listen(func() { t.Fatal(x) })"), "t.Fatal"},
		{"Fatalf", "a_test.go", inTest("b.NewEvent(func() { t.Fatalf(x) })"), "t.Fatalf"},
		{"FailNow", "a_test.go", inTest("b.NewSignal(func() { t.FailNow() })"), "t.FailNow"},
		{"Skip", "a_test.go", inTest("b.Peek(func() { t.Skip(x) })"), "t.Skip"},
		{"assert", "a_test.go", inTest("b.Pullup(1, func() { assert.True(t, x) })"), ""},
		{"require around", "a_test.go", inTest("require.NoError(t, b.Post(func() {}))"), ""},
		{"require elsewhere", "a_test.go", inTest("t.Run(x, func() { require.True(t, x) })"), ""},

		{"sleep", "a_test.go", inTest("time.Sleep(1)"), sleep},
		{"sleep for nothing", "a_test.go", inTest("time.Sleep(1) // sleep: "), sleep},
		{"sleep explained elsewhere", "a_test.go", inTest("// sleep: this\ntime.Sleep(1)"), sleep},
		{"sleep explained", "a_test.go", inTest("time.Sleep(1) // sleep: the kernel's clock is coarse"), ""},
		{"sleep outside of tests", "a.go", inTest("time.Sleep(1)"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			told := typesTold{}
			if err := told.add(c.path, []byte(c.source)); err != nil {
				t.Fatal(err)
			}
			found, err := lint(c.path, []byte(c.source), told)
			got := strings.Join(found, "\n")
			switch {
			case err != nil:
				t.Fatal(err)
			case c.want == "" && len(found) > 0, c.want != "" && len(found) != 1, !strings.Contains(got, c.want):
				t.Errorf("want %q, got %q", c.want, got)
			}
		})
	}
}

func TestTree(t *testing.T) {
	bad := &fstest.MapFile{Data: []byte("package p\n//export f\nfunc f() {}")}
	found, err := lintTree(fstest.MapFS{"callbacks.go": bad, ".x/a.go": bad, "x/y/a.go": bad, "x/a.c": bad})
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "x/y/a.go:2:") {
		t.Errorf("found %q, %v", found, err)
	}
	method := &fstest.MapFile{Data: []byte("package p\n// M is.\nfunc (t T) M() {}")}
	told := &fstest.MapFile{Data: []byte("package p\n// T is. Its methods are safe for concurrent use.\ntype T int")}
	found, err = lintTree(fstest.MapFS{"a.go": method, "b.go": told, "evnet/a.go": method})
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "evnet/a.go:3:") {
		t.Errorf("found %q, %v", found, err)
	}
	if _, err := lintTree(fstest.MapFS{"a.go": {Data: []byte("no Go")}}); err == nil {
		t.Error("a file that does not parse is passed over")
	}
}
