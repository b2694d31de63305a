// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"debug/elf"
	"debug/macho"
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
	for example, want := range map[string]bool{"echo": false, "https": true} {
		program := filepath.Join(t.TempDir(), example)
		out, err := exec.Command("go", "build", "-o", program, "../examples/"+example).CombinedOutput()
		require.NoError(t, err, string(out))
		var tls, core, whole bool
		libs := libraries(t, program)
		for _, lib := range libs {
			base := filepath.Base(lib)
			tls = tls || strings.HasPrefix(base, "libssl") || strings.HasPrefix(base, "libcrypto") || strings.HasPrefix(base, "libevent_openssl")
			core = core || strings.HasPrefix(base, "libevent_core")
			whole = whole || strings.HasPrefix(base, "libevent-")
		}
		assert.Equal(t, want, tls, "%s links %v", example, libs)
		assert.True(t, core, "%s links %v", example, libs)
		assert.False(t, whole, "%s links %v", example, libs)
	}
}
