// SPDX-License-Identifier: BSD-3-Clause

// Lint checks the rules of this repository that no compiler knows. It is run in
// the repository's root:
//
//	go run ./scripts/lint
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	found, err := lintAll(os.DirFS("."))
	if err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(2)
	}
	for _, violation := range found {
		fmt.Println(violation)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

func lintAll(tree fs.FS) ([]string, error) {
	found, err := lintTree(tree)
	licences, failed := lintLicences(tree)
	return append(found, licences...), errors.Join(err, failed)
}

func lintTree(tree fs.FS) (found []string, err error) {
	told, files := typesTold{}, cFiles{}
	err = eachFile(tree, told.add, files.add)
	if err != nil {
		return nil, err
	}
	err = eachFile(tree, func(path string, source []byte) error {
		violations, err := lint(path, source, told)
		found = append(found, violations...)
		return err
	}, nil)
	return append(found, lintC(files)...), err
}

// eachFile calls goFile for every file of Go, and cFile, if that is not nil, for every file
// and header of C.
func eachFile(tree fs.FS, goFile, cFile func(path string, source []byte) error) error {
	return fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		fn := map[string]func(string, []byte) error{".go": goFile, ".c": cFile, ".h": cFile}[filepath.Ext(path)]
		if fn == nil {
			return nil
		}
		source, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		return fn(path, source)
	})
}

// file is one Go file under inspection.
type file struct {
	*ast.File
	path  string
	fset  *token.FileSet
	found []string
}

func lint(path string, source []byte, told typesTold) ([]string, error) {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, path, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	f := &file{File: parsed, path: path, fset: fset}
	f.exports()
	f.cgoDirectives()
	f.handles()
	if strings.HasSuffix(path, "_test.go") {
		f.goexits()
		f.sleeps()
	} else if slices.Contains(documented, filepath.Dir(path)) {
		f.docs(told)
	}
	return f.found, nil
}

func (f *file) violation(pos token.Pos, format string, args ...any) {
	violation := fmt.Sprintf("%s:%d: %s", f.path, f.line(pos), fmt.Sprintf(format, args...))
	if !slices.Contains(f.found, violation) { // closures in closures are met twice
		f.found = append(f.found, violation)
	}
}

func (f *file) line(pos token.Pos) int { return f.fset.Position(pos).Line }

// eachComment calls fn for every line of the comments, without its marks.
func (f *file) eachComment(fn func(at *ast.Comment, line string)) {
	for _, group := range f.Comments {
		for _, c := range group.List {
			text := strings.TrimSuffix(c.Text[2:], "*/")
			for line := range strings.Lines(text) {
				fn(c, line)
			}
		}
	}
}

// exports keeps everything that C can call in one place.
func (f *file) exports() {
	if filepath.Base(f.path) == "callbacks.go" {
		return
	}
	f.eachComment(func(at *ast.Comment, line string) {
		if strings.HasPrefix(line, "export ") {
			f.violation(at.Pos(), "//export belongs in callbacks.go")
		}
	})
}

// cgoDirectives keeps the build's settings in one place.
func (f *file) cgoDirectives() {
	if ok, _ := filepath.Match("cgo_flags*.go", filepath.Base(f.path)); ok {
		return
	}
	f.eachComment(func(at *ast.Comment, line string) {
		if strings.HasPrefix(strings.TrimSpace(line), "#cgo ") {
			f.violation(at.Pos(), "#cgo belongs in cgo_flags*.go")
		}
	})
}

// handles keeps go-pointer behind the type that makes its release safe.
func (f *file) handles() {
	for _, imported := range f.Imports {
		if imported.Path.Value == `"github.com/mattn/go-pointer"` && f.path != "handle.go" {
			f.violation(imported.Pos(), "go-pointer is used through handle.go only")
		}
	}
}

// documented are the folders of the packages that users import.
var documented = []string{".", "evnet", "openssl"}

var (
	threading = regexp.MustCompile(`[Ss]afe for concurrent use|[Ll]oop goroutine only`)
	// known are the methods whose interfaces say all there is to say.
	known = []string{"String", "Error", "Unwrap", "Timeout", "Temporary", "Is"}
)

// docs wants a doc comment on every function, and wants to know of every method which
// goroutines may call it: from the doc of its type or, where that differs, from its own.
func (f *file) docs(told typesTold) {
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || !fn.Name.IsExported() || slices.Contains(known, fn.Name.Name) || !exportedReceiver(fn) {
			continue
		}
		if fn.Doc.Text() == "" {
			f.violation(fn.Pos(), "%s has no doc comment", fn.Name.Name)
		} else if fn.Recv != nil && !tells(fn.Doc) && !told[typeIn(f.path, receiver(fn))] {
			f.violation(fn.Pos(), "neither the doc of %s nor that of its type says which goroutines may call it", fn.Name.Name)
		}
	}
}

// typesTold are the types, by folder and name, whose doc says which goroutines may call
// their methods.
type typesTold map[string]bool

func typeIn(path, name string) string { return filepath.Dir(path) + "." + name }

func tells(doc *ast.CommentGroup) bool {
	return threading.MatchString(strings.Join(strings.Fields(doc.Text()), " "))
}

// add takes note of the types of one file.
func (told typesTold) add(path string, source []byte) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments)
	if err != nil {
		return err
	}
	for _, decl := range parsed.Decls {
		types, ok := decl.(*ast.GenDecl)
		if !ok || types.Tok != token.TYPE {
			continue
		}
		for _, spec := range types.Specs {
			spec := spec.(*ast.TypeSpec)
			if tells(types.Doc) || tells(spec.Doc) {
				told[typeIn(path, spec.Name.Name)] = true
			}
		}
	}
	return nil
}

// receiver gives the name of the receiver's type, or nothing.
func receiver(fn *ast.FuncDecl) (name string) {
	if fn.Recv != nil {
		ast.Inspect(fn.Recv.List[0].Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && name == "" {
				name = id.Name
			}
			return name == ""
		})
	}
	return name
}

// exportedReceiver also holds for a function without one.
func exportedReceiver(fn *ast.FuncDecl) bool {
	return fn.Recv == nil || ast.IsExported(receiver(fn))
}

var (
	takesCallbacks = []string{"SetCallbacks", "Listen", "ListenFD", "NewEvent", "NewTimer", "NewSignal", "Post", "PostAll", "SetErrorFunc", "Peek", "Pullup", "Serve", "Handle", "Pipe", "After", "Every"}
	endsGoroutine  = []string{"Fatal", "Fatalf", "FailNow", "Skip", "Skipf", "SkipNow"}
)

// goexits keeps runtime.Goexit, by which tests end early, out of closures that
// run above libevent's frames: it would take those away.
func (f *file) goexits() {
	ast.Inspect(f.File, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && slices.Contains(takesCallbacks, method(call)) {
			for _, arg := range call.Args {
				if closure, ok := arg.(*ast.FuncLit); ok {
					f.goexitsIn(closure)
				}
			}
		}
		return true
	})
}

func (f *file) goexitsIn(closure *ast.FuncLit) {
	ast.Inspect(closure, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && (on(call) == "require" || slices.Contains(endsGoroutine, method(call))) {
			f.violation(call.Pos(), "%s.%s ends the goroutine inside a callback: use assert", on(call), method(call))
		}
		return true
	})
}

// sleeps wants a reason for every test that waits by the clock.
func (f *file) sleeps() {
	reasons := map[int]bool{}
	f.eachComment(func(at *ast.Comment, line string) {
		if reason, ok := strings.CutPrefix(line, " sleep: "); ok && strings.TrimSpace(reason) != "" {
			reasons[f.line(at.Pos())] = true
		}
	})
	ast.Inspect(f.File, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if ok && on(call) == "time" && method(call) == "Sleep" && !reasons[f.line(call.Pos())] {
			f.violation(call.Pos(), "time.Sleep without `// sleep: reason`")
		}
		return true
	})
}

// method gives Y of a call X.Y(), or nothing.
func method(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		return selector.Sel.Name
	}
	return ""
}

// on gives X of a call X.Y() if that is a plain name.
func on(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		if x, ok := selector.X.(*ast.Ident); ok {
			return x.Name
		}
	}
	return ""
}
