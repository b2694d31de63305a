// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// BuildGo is the command that builds the program of this folder.
func BuildGo(binary string) *exec.Cmd { return exec.Command("go", "build", "-o", binary, ".") }

// MainWithProgram builds a program, stores the path of the program in *binary, and runs
// the tests.
func MainWithProgram(m *testing.M, binary *string, build func(binary string) *exec.Cmd) (code int) {
	dir, err := os.MkdirTemp("", "program")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	*binary = filepath.Join(dir, "program")
	if out, err := build(*binary).CombinedOutput(); err != nil {
		fmt.Printf("%s%v\n", out, err)
		return 1
	}
	return m.Run()
}

// Serve runs a server that prints "listening on" and its address, and returns that
// address. At the end of the test the server gets SIGTERM, and must end without an error.
func Serve(t testing.TB, binary string, args ...string) (addr string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop := time.AfterFunc(2*Patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		assert.NoError(t, cmd.Wait())
		stop.Stop()
		if t.Failed() {
			t.Log(errs.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, addr, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	return addr
}
