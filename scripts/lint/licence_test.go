// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"testing"
	"testing/fstest"
)

func TestLicences(t *testing.T) {
	const line = "// SPDX-License-Identifier: BSD-3-Clause\n"
	found, err := lintLicences(fstest.MapFS{
		"a.go":   {Data: []byte(line + "\npackage p")},
		"b.go":   {Data: []byte(line + "package p")},
		"c/d.go": {Data: []byte("package p\n" + line)},
		"e.c":    {Data: []byte("/* SPDX-License-Identifier: BSD-3-Clause */\nint i;")},
		"f.h":    {Data: []byte("int i;")},
		"g.md":   {Data: []byte("text")},
	})
	if err != nil || len(found) != 3 {
		t.Fatalf("found %q, %v", found, err)
	}
	wantFound(t, found,
		`b.go:1: the file does not begin with "// SPDX-License-Identifier: BSD-3-Clause\n\n"`,
		`c/d.go:1: the file does not begin with "// SPDX-License-Identifier: BSD-3-Clause\n\n"`,
		`f.h:1: the file does not begin with "/* SPDX-License-Identifier: BSD-3-Clause */\n"`)
}
