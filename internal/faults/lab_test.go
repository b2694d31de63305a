// SPDX-License-Identifier: BSD-3-Clause

//go:build linux && cgo

package faults_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/faults/outcome"
)

// lab has what runs a scenario with faults.
type lab struct {
	program, preload string
	exclude          string // FAULTS_EXCLUDE
	objects          map[string]*object
}

// newLab compiles the object that is preloaded, and program scenarios.
func newLab(t testing.TB) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{program: filepath.Join(dir, "scenarios"), preload: filepath.Join(dir, "faults.so"), objects: map[string]*object{}}
	cc, err := exec.Command("go", "env", "CC").Output()
	require.NoError(t, err)
	args := append(strings.Fields(string(cc)), "-O1", "-g", "-shared", "-fPIC", "-pthread", "-o", l.preload, "testdata/faults.c", "-ldl")
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Skipf("the object that is preloaded does not compile; it needs Linux with glibc: %s", out)
	}
	out, err := exec.Command("go", "build", "-o", l.program, "./scenarios").CombinedOutput()
	require.NoError(t, err, "%s", out)
	l.exclude = l.object(l.program).ranges(regexp.MustCompile(`^x_cgo_|_Cfunc__Cmalloc$`))
	return l
}

// scenarios lists the scenarios.
func (l *lab) scenarios(t testing.TB) []string {
	t.Helper()
	out, err := exec.Command(l.program).Output()
	require.NoError(t, err)
	names := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(names)
	return names
}

// ended is how a run of a scenario ended.
type ended struct {
	outcome.Outcome
	failed, crashed []string // the functions, innermost first, in which an allocation failed, and the process crashed
	output          string
	status          int // with which the process exited
}

// run runs a scenario. The process gets what is in env besides.
func (l *lab) run(scenario string, freeing bool, env ...string) (e ended, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 180*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, scenario)
	if freeing {
		cmd.Args = append(cmd.Args, "free")
	}
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+l.preload, "FAULTS_EXCLUDE="+l.exclude, "GOTRACEBACK=all")
	cmd.Env = append(cmd.Env, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	e.status = cmd.ProcessState.ExitCode()
	e.output = errs.String()
	for line := range strings.Lines(e.output) {
		if said, ok := strings.CutPrefix(line, "faults: "); ok {
			what, stack, _ := strings.Cut(said, " at")
			if strings.HasPrefix(what, "crash") && e.crashed == nil {
				e.crashed = l.functions(stack)
			} else if strings.Contains(what, "fails") {
				e.failed = l.functions(stack)
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &e.Outcome)
	}
	if err == nil && len(e.Bugs) > 0 {
		err = errors.New(strings.Join(e.Bugs, "\n"))
	}
	if err != nil {
		err = fmt.Errorf("%s %v: %w\nfailed in %v\ncrashed in %v", scenario, env, err, e.failed, e.crashed)
	}
	return e, err
}

// object is the program or a shared library, with the addresses of its functions.
type object struct {
	base    uint64
	symbols []elf.Symbol // functions, sorted by address
}

func (l *lab) object(path string) *object {
	if o, ok := l.objects[path]; ok {
		return o
	}
	o := &object{}
	l.objects[path] = o
	f, err := elf.Open(path)
	if err != nil {
		return o
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			o.base = p.Vaddr &^ 0xfff
			break
		}
	}
	o.symbols, _ = f.Symbols()
	dynamic, _ := f.DynamicSymbols()
	o.symbols = slices.DeleteFunc(append(o.symbols, dynamic...), func(s elf.Symbol) bool {
		return elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Size == 0
	})
	slices.SortFunc(o.symbols, func(a, b elf.Symbol) int { return int(a.Value) - int(b.Value) })
	return o
}

// ranges lists the addresses of the functions that have such names, for FAULTS_EXCLUDE.
func (o *object) ranges(names *regexp.Regexp) string {
	var list []string
	for _, s := range o.symbols {
		if names.MatchString(s.Name) {
			list = append(list, fmt.Sprintf("%x-%x", s.Value, s.Value+s.Size))
		}
	}
	return strings.Join(list, ",")
}

// function names the function at an address. The names of static functions of a library are
// not known, and empty.
func (o *object) function(at uint64) string {
	for _, s := range o.symbols {
		if at >= s.Value && at < s.Value+s.Size {
			return s.Name
		}
	}
	return ""
}

var frame = regexp.MustCompile(`(\S+)\+([0-9a-f]+)`)

// functions names the functions of a stack. Where the name is not known it is that of the
// library.
func (l *lab) functions(stack string) (names []string) {
	for _, m := range frame.FindAllStringSubmatch(stack, -1) {
		offset, _ := strconv.ParseUint(m[2], 16, 64)
		o := l.object(m[1])
		name := o.function(o.base + offset - 1)
		if name == "" {
			name, _, _ = strings.Cut(filepath.Base(m[1]), "-")
		}
		names = append(names, name)
	}
	return names
}
