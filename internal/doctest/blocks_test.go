// SPDX-License-Identifier: BSD-3-Clause

package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// block is one block of code of a document.
type block struct {
	doc      string
	line     int
	language string
	code     string
	output   string // of a program, which the next block of the language "text" shows
	shown    bool   // there is such a block
}

func (b *block) place() string { return fmt.Sprintf("%s:%d", b.doc, b.line) }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// blocks returns the blocks of all documents that show Go or C.
func blocks(t *testing.T, root string) (all []*block) {
	t.Helper()
	docs := []string{"README.md", "examples/embed/README.md"} // that of redis is tested in its own module
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(root, "docs", "*", "*.md"))
	require.NoError(t, err)
	for _, path := range append(found, more...) {
		rel, err := filepath.Rel(root, path)
		require.NoError(t, err)
		docs = append(docs, rel)
	}
	for _, doc := range docs {
		text, err := os.ReadFile(filepath.Join(root, doc))
		require.NoError(t, err)
		var last *block
		for _, m := range fence.FindAllSubmatchIndex(text, -1) {
			b := &block{doc: doc, line: 1 + strings.Count(string(text[:m[0]]), "\n"), language: string(text[m[2]:m[3]]), code: string(text[m[4]:m[5]])}
			if b.language == "text" && last != nil && last.isProgram() {
				last.output, last.shown = b.code, true
			}
			last = b
			if b.language == "go" || b.language == "c" {
				all = append(all, b)
			}
		}
	}
	return all
}

func (b *block) isProgram() bool {
	return b.language == "go" && strings.HasPrefix(b.code, "package main\n")
}

// given is what a fragment of Go may use without declaring it.
const given = `base *libevent.Base, group *libevent.Group, bev, other *libevent.BufferEvent, buf, dst *libevent.Buffer,
	fd int, p []byte, ctx context.Context, cert tls.Certificate, dns *libevent.DNSBase,
	read, written func(*libevent.BufferEvent), event func(*libevent.BufferEvent, libevent.Events)`

// imports are the packages that programs and fragments may use.
var imports = map[string]string{
	"libevent": "github.com/go-libevent/libevent", "openssl": "github.com/go-libevent/libevent/openssl",
	"evnet": "github.com/go-libevent/libevent/evnet", "context": "context", "tls": "crypto/tls", "errors": "errors",
	"fmt": "fmt", "io": "io", "net": "net", "http": "net/http", "os": "os", "syscall": "syscall", "time": "time", "log": "log",
}

// source makes a package of a program, with Main in place of main, or of a fragment.
func (b *block) source(name string) string {
	if b.isProgram() {
		code := strings.Replace(b.code, "package main\n", "package "+name+"\n", 1)
		return strings.Replace(code, "\nfunc main() {", "\nfunc Main() {", 1)
	}
	paths := []string{"github.com/go-libevent/libevent", "context", "crypto/tls"}
	for name, path := range imports {
		if regexp.MustCompile(`(^|[^\w.])`+name+`\.`).MatchString(b.code) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "package %s\n\nimport (\n", name)
	for _, path := range paths {
		fmt.Fprintf(&s, "\t%q\n", path)
	}
	fmt.Fprintf(&s, ")\n\nfunc fragment(%s) error {\n%s\n\treturn nil\n}\n", given, b.code)
	return s.String()
}
