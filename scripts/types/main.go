// SPDX-License-Identifier: BSD-3-Clause

// Command types type-checks the packages of this module, with their tests, as they are built on
// other systems:
//
//	go run ./scripts/types darwin/arm64 linux/386
//
// It needs neither a C compiler nor the headers of those systems, because it takes everything
// from package C on trust. What it finds is a name of Go's that a system does not have, a file
// that its build constraints leave out, and a constant that overflows there.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// listed is what go list says of a package. Packages come after those that they import.
type listed struct {
	Dir, ImportPath, Name string
	GoFiles, CgoFiles     []string
	ImportMap             map[string]string
	Module                *struct {
		Main      bool
		GoVersion string
	}
	Error *struct{ Err string }
}

func main() {
	failed := false
	for _, system := range os.Args[1:] {
		errs, err := checkAll(".", system)
		if err != nil {
			errs = append(errs, err)
		}
		for _, err := range errs {
			failed = true
			fmt.Printf("%s: %v\n", system, err)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// checkAll type-checks the packages of the module in dir for a system, which is given as its GOOS, a
// slash and its GOARCH. The first result has the errors of the module. The standard library and
// other modules are taken to be right.
func checkAll(dir, system string) ([]error, error) {
	goos, goarch, ok := strings.Cut(system, "/")
	if !ok {
		return nil, fmt.Errorf("%s is not a GOOS, a slash and a GOARCH", system)
	}
	packages, err := list(dir, goos, goarch)
	if err != nil {
		return nil, err
	}
	c := &checker{
		fset:  token.NewFileSet(),
		known: map[string]*types.Package{"unsafe": types.Unsafe},
		sizes: types.SizesFor("gc", goarch),
	}
	for _, p := range packages {
		if p.Error != nil {
			return nil, errors.New(p.Error.Err)
		}
		if err := c.check(p); err != nil {
			return nil, err
		}
	}
	return c.errors, nil
}

// list returns the packages of the module in dir, their tests, and everything that they import.
func list(dir, goos, goarch string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-test", "-json=Dir,ImportPath,Name,GoFiles,CgoFiles,ImportMap,Module,Error", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var packages []listed
	for d := json.NewDecoder(out); ; {
		var p listed
		err := d.Decode(&p)
		if err == io.EOF {
			return packages, cmd.Wait()
		}
		if err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
		packages = append(packages, p)
	}
}

type checker struct {
	fset   *token.FileSet
	known  map[string]*types.Package
	sizes  types.Sizes
	errors []error
}

// check type-checks a package. Bodies of functions matter in the module only.
func (c *checker) check(p listed) error {
	if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") {
		return nil // the main function of a test program is generated
	}
	mine := p.Module != nil && p.Module.Main
	conf := types.Config{
		Importer:         importer{c.known, p.ImportMap},
		Sizes:            c.sizes,
		FakeImportC:      true,
		IgnoreFuncBodies: !mine,
		Error: func(err error) {
			if mine && !ofC(err) {
				c.errors = append(c.errors, err)
			}
		},
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		conf.GoVersion = "go" + p.Module.GoVersion
	}
	var files []*ast.File
	for _, name := range append(p.GoFiles, p.CgoFiles...) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		f, err := parser.ParseFile(c.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	// The importing packages name a variant that is compiled for a test without its suffix.
	path, _, _ := strings.Cut(p.ImportPath, " ")
	checked, _ := conf.Check(path, c.fset, files, nil)
	c.known[p.ImportPath] = checked
	return nil
}

// ofC reports whether an error comes from what the type checker does not know: types and constants
// of package C.
func ofC(err error) bool {
	return strings.Contains(err.Error(), "invalid type") || strings.Contains(err.Error(), "key unknown")
}

// importer finds packages that were checked before. A package imports some under other paths than
// it writes: vendored ones, and those that are compiled for a test.
type importer struct {
	known map[string]*types.Package
	paths map[string]string
}

func (i importer) Import(path string) (*types.Package, error) {
	if real, ok := i.paths[path]; ok {
		path = real
	}
	if p := i.known[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no package %s", path)
}
