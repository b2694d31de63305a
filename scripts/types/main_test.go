// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// module makes a module with one file, and one test.
func module(t *testing.T, source, test string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.25\n", "m.go": "package m\n" + source, "m_test.go": "package m_test\n" + test,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

const (
	linuxOnly  = "\nimport \"syscall\"\n\nconst cloexec = syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC\n"
	overflow   = "\nfunc f(int) {}\n\nfunc g() { f(1 << 40) }\n"
	ofPackageC = `
/*
struct s { int n; };
enum { A, B };
int f(struct s *);
*/
import "C"
import "unsafe"

type T struct { s C.struct_s }

func (t *T) F() (int, unsafe.Pointer) {
	_ = map[int]bool{C.A: true, C.B: false}
	return int(C.f(&t.s)), unsafe.Pointer(&t.s)
}
`
)

func TestFinds(t *testing.T) {
	for name, c := range map[string]struct {
		source, test, system string
		want                 []string
	}{
		"a name that Linux has":          {linuxOnly, "", "linux/386", nil},
		"a name that macOS has not":      {linuxOnly, "", "darwin/arm64", []string{"m.go:5:47: undefined: syscall.SOCK_CLOEXEC"}},
		"such a name in a test":          {"", linuxOnly, "darwin/arm64", []string{"m_test.go:5:47: undefined: syscall.SOCK_CLOEXEC"}},
		"beside what is of C's":          {ofPackageC, linuxOnly, "darwin/arm64", []string{"m_test.go:5:47: undefined: syscall.SOCK_CLOEXEC"}},
		"nothing in what is of C's":      {ofPackageC, "", "freebsd/amd64", nil},
		"a constant without enough bits": {overflow, "", "linux/386", []string{"m.go:5:14: cannot use 1 << 40 (untyped int constant 1099511627776) as int value in argument to f (overflows)"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := module(t, c.source, c.test)
			errs, err := checkAll(dir, c.system)
			require.NoError(t, err)
			var got []string
			for _, err := range errs {
				got = append(got, fmt.Sprint(err))
			}
			var want []string
			for _, w := range c.want {
				want = append(want, filepath.Join(dir, w))
			}
			assert.Equal(t, want, got)
		})
	}
}
