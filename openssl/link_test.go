// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"debug/elf"
	"debug/macho"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// libraries returns the shared libraries that a program is linked to.
func libraries(t *testing.T, path string) []string {
	t.Helper()
	if runtime.GOOS == "darwin" {
		f, err := macho.Open(path)
		require.NoError(t, err)
		defer f.Close()
		libs, err := f.ImportedLibraries()
		require.NoError(t, err)
		return libs
	}
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	libs, err := f.ImportedLibraries()
	require.NoError(t, err)
	return libs
}

// Only programs that import this package link OpenSSL, and none links a second libevent.
func TestLinked(t *testing.T) {
	for imported, want := range map[string]bool{"libevent": false, "libevent/openssl": true} {
		// The directory is inside of the module, so that the program imports this version.
		dir, err := os.MkdirTemp(".", "linked")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		source := "package main\n\nimport _ \"github.com/go-libevent/" + imported + "\"\n\nfunc main() {}\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
		program := filepath.Join(t.TempDir(), "program")
		out, err := exec.Command("go", "build", "-o", program, "./"+dir).CombinedOutput()
		require.NoError(t, err, string(out))
		var tls, core, whole bool
		libs := libraries(t, program)
		for _, lib := range libs {
			base := filepath.Base(lib)
			tls = tls || strings.HasPrefix(base, "libssl") || strings.HasPrefix(base, "libcrypto") || strings.HasPrefix(base, "libevent_openssl")
			core = core || strings.HasPrefix(base, "libevent_core")
			whole = whole || strings.HasPrefix(base, "libevent-")
		}
		assert.Equal(t, want, tls, "%s links %v", imported, libs)
		assert.True(t, core, "%s links %v", imported, libs)
		assert.False(t, whole, "%s links %v", imported, libs)
	}
}
