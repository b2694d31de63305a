// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// lintLicences wants to find the licence's name at the top of every file. In a file of Go an
// empty line follows, or the name would become a part of the package's doc comment.
func lintLicences(tree fs.FS) (found []string, err error) {
	const name = "SPDX-License-Identifier: BSD-3-Clause"
	check := func(path string, source []byte) error {
		want := "/* " + name + " */\n"
		if filepath.Ext(path) == ".go" {
			want = "// " + name + "\n\n"
		}
		if !strings.HasPrefix(string(source), want) {
			found = append(found, fmt.Sprintf("%s:1: the file does not begin with %q", path, want))
		}
		return nil
	}
	err = eachFile(tree, check, check)
	return found, err
}
