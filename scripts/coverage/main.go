// SPDX-License-Identifier: BSD-3-Clause

// Coverage compares the functions of the installed libevent headers with those that
// the packages call and those that docs/coverage.md gives a reason for. It prints a
// count for each header, and fails when a function is in neither place, or in both.
//
//	go run ./scripts/coverage
package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// headers are those that are covered, with the folder of the package that does it.
var headers = []struct{ name, folder string }{
	{"bufferevent.h", "."}, {"bufferevent_ssl.h", "openssl"},
	{"buffer.h", "."}, {"listener.h", "."}, {"event.h", "."}, {"dns.h", "."},
}

const reasons = "docs/coverage.md"

func main() {
	problems, err := check(os.Stdout)
	if err != nil {
		problems = []string{err.Error()}
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func check(out *os.File) ([]string, error) {
	doc, err := os.ReadFile(reasons)
	if err != nil {
		return nil, err
	}
	excused := excuses(string(doc))
	var problems []string
	for _, h := range headers {
		name := h.name
		text, err := header(name)
		if err != nil {
			return nil, err
		}
		source, err := readAll(filepath.Join(h.folder, "*.c"), filepath.Join(h.folder, "*.go"))
		if err != nil {
			return nil, err
		}
		functions := exported(text)
		called := 0
		for _, f := range functions {
			_, hasReason := excused[f]
			delete(excused, f)
			switch calls := calledIn(source, f); {
			case calls && hasReason:
				problems = append(problems, fmt.Sprintf("%s: %s is wrapped, and %s says why not", name, f, reasons))
			case calls:
				called++
			case !hasReason:
				problems = append(problems, fmt.Sprintf("%s: %s is not wrapped, and %s does not say why", name, f, reasons))
			}
		}
		fmt.Fprintf(out, "%-17s %3d functions, %3d wrapped, %3d with a reason why not\n",
			name, len(functions), called, len(functions)-called)
	}
	for _, f := range slices.Sorted(maps.Keys(excused)) {
		if excused[f] {
			problems = append(problems, fmt.Sprintf("%s: %s is in none of the headers", reasons, f))
		}
	}
	return problems, nil
}

// header reads one of libevent's headers from where the compiler would take it.
func header(name string) (string, error) {
	dir, err := exec.Command("pkg-config", "--variable=includedir", "libevent_core").Output()
	if err != nil {
		return "", fmt.Errorf("pkg-config: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "event2", name))
	return string(text), err
}

func readAll(patterns ...string) (string, error) {
	var all strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			all.Write(text)
		}
	}
	return literals.ReplaceAllString(comments.ReplaceAllString(all.String(), ""), ""), nil
}

var (
	comments    = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	literals    = regexp.MustCompile(`"(?:\\.|[^"\\\n])*"`)
	declaration = regexp.MustCompile(`(?s)EVENT2_EXPORT_SYMBOL\s+([^;{]*?)[;{]`)
	declared    = regexp.MustCompile(`(\w+)\s*\(`)
	row         = regexp.MustCompile("(?m)^\\| `(\\w+)` \\|[^|]*\\S[^|]*\\|$")
)

// exported returns the functions that a header declares, sorted.
func exported(text string) []string {
	var names []string
	for _, d := range declaration.FindAllStringSubmatch(comments.ReplaceAllString(text, ""), -1) {
		if m := declared.FindStringSubmatch(d[1]); m != nil {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// excuses returns the functions in the rows of the tables that have a reason, and
// whether the headers of every version have them. What the document says of flags and
// of test cases is not about functions.
func excuses(doc string) map[string]bool {
	names := map[string]bool{}
	doc, _, _ = strings.Cut(doc, "## Flags")
	everywhere, some, _ := strings.Cut(doc, "## Functions that not every")
	for text, always := range map[string]bool{everywhere: true, some: false} {
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			names[m[1]] = always
		}
	}
	return names
}

// calledIn says whether source calls the function, or takes its address to do so.
func calledIn(source, function string) bool {
	return regexp.MustCompile(`\b` + function + `\b`).MatchString(source)
}
