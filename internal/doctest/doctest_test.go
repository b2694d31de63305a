// SPDX-License-Identifier: BSD-3-Clause

package doctest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
)

// TestDocuments compiles the Go of all documents, each block a package of a module that uses
// this one, and runs the programs whose output a document shows.
func TestDocuments(t *testing.T) {
	if testutil.Race || testutil.ASan {
		t.Skip("the programs are built without the sanitizers")
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	module(t, root, dir)
	byName := map[string]*block{}
	for i, b := range blocks(t, root) {
		if b.language != "go" {
			continue
		}
		name := fmt.Sprintf("p%d", i)
		byName[name] = b
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o777))
		source := fmt.Sprintf("//line %s:1\n%s", b.place(), b.source(name))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "main.go"), []byte(source), 0o666))
	}
	require.NotEmpty(t, byName)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(runner(byName)), 0o666))
	goBuild(t, dir, "./...")
	goBuild(t, dir, "-o", "runner", ".")
	for name, b := range byName {
		if b.shown {
			t.Run(b.place(), func(t *testing.T) { run(t, filepath.Join(dir, "runner"), name, b) })
		}
	}
}

// runner is a program that runs the one program whose name it gets: to link each would take long.
func runner(byName map[string]*block) string {
	var imports, programs strings.Builder
	for name, b := range byName {
		if b.shown {
			fmt.Fprintf(&imports, "\t\"documents/%s\"\n", name)
			fmt.Fprintf(&programs, "\t\t%q: %s.Main,\n", name, name)
		}
	}
	return fmt.Sprintf("package main\n\nimport (\n\t\"os\"\n\n%s)\n\nfunc main() {\n\tmap[string]func(){\n%s\t}[os.Args[1]]()\n}\n", &imports, &programs)
}

func goBuild(t *testing.T, dir string, args ...string) {
	t.Helper()
	build := exec.Command("go", append([]string{"build", "-mod=mod"}, args...)...)
	build.Dir = dir
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// module makes a module that uses this one.
func module(t *testing.T, root, dir string) {
	t.Helper()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	text := strings.Replace(string(mod), "module github.com/go-libevent/libevent", "module documents", 1) +
		"\nrequire github.com/go-libevent/libevent v0.0.0\n\nreplace github.com/go-libevent/libevent => " + root + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o666))
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o666))
}

func run(t *testing.T, program, name string, b *block) {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, name)
	cmd.Env = append(os.Environ(), "LIBEVENT_GO_DEBUG=1") // the programs of the documents make no mistakes
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	assert.NoError(t, err, stderr.String())
	assert.Equal(t, b.output, string(out))
}

// TestDocumentsInC compiles the C of all documents.
func TestDocumentsInC(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is called cc here")
	}
	flags, err := exec.Command("pkg-config", "--cflags", "libevent_core").Output()
	require.NoError(t, err)
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, b := range blocks(t, root) {
		if b.language != "c" {
			continue
		}
		file := filepath.Join(t.TempDir(), "main.c")
		require.NoError(t, os.WriteFile(file, []byte(b.code), 0o666))
		args := append([]string{"-Wall", "-Werror", "-fsyntax-only", file}, strings.Fields(string(flags))...)
		out, err := exec.Command(cc, args...).CombinedOutput()
		assert.NoError(t, err, "%s\n%s", b.place(), out)
	}
}
