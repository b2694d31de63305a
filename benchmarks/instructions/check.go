// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

const figuresFile = "figures.txt"

//go:embed figures.txt
var figures string

// margin is by how many percent a count may be larger than the figure.
const margin = 5

// environment names what a count depends on besides the code that is counted.
func environment(ctx context.Context, tree string) (string, error) {
	libevent, err := output(ctx, tree, "pkg-config", "--modversion", "libevent_core")
	if err != nil {
		return "", err
	}
	libc, err := output(ctx, tree, "getconf", "GNU_LIBC_VERSION")
	if err != nil {
		libc = "another-libc"
	}
	libc, _, _ = strings.Cut(libc, " ")
	version := strings.Join(strings.SplitN(runtime.Version()+"..", ".", 3)[:2], ".")
	return strings.Join([]string{runtime.GOARCH, version, "libevent-" + libevent, libc}, " "), nil
}

// figure is a count that was measured before.
type figure struct {
	contestant contestant
	point      point
	count      int
}

// parseFigures returns the figures for an environment.
func parseFigures(text, environment string) (found []figure, err error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		where, what, _ := strings.Cut(line, ": ")
		var name string
		var f figure
		if _, err := fmt.Sscan(what, &name, &f.point.size, &f.point.conns, &f.count); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", figuresFile, line, err)
		}
		i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s: %q: no such contestant", figuresFile, line)
		}
		f.contestant = contestants[i]
		if where == environment {
			found = append(found, f)
		}
	}
	return found, lines.Err()
}

// compare counts again what has a figure.
func (o *options) compare(ctx context.Context, dir string) error {
	where, err := environment(ctx, o.tree)
	if err != nil {
		return err
	}
	all, err := parseFigures(figures, where)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Printf("skipped: %s has no figures for %s\n", figuresFile, where)
		return nil
	}
	s, err := build(ctx, o.tree, dir, all[0].contestant)
	if err != nil {
		return err
	}
	if err := tryValgrind(ctx, s.file, "-help"); err != nil {
		fmt.Println("skipped:", err)
		return nil
	}
	var errs []error
	for _, f := range all {
		n, err := o.count(ctx, dir, f.contestant, f.point)
		if err != nil {
			return err
		}
		verdict, err := f.judge(n)
		fmt.Println(verdict)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// judge compares a new count with the figure.
func (f figure) judge(n int) (verdict string, err error) {
	verdict = fmt.Sprintf("%s: %d instructions, %+.1f %% of %d", f.point.of(f.contestant), n,
		100*float64(n-f.count)/float64(f.count), f.count)
	switch {
	case 100*n > (100+margin)*f.count:
		err = fmt.Errorf("%s: an echo needs more than %d %% more instructions than %s says: %d instead of %d",
			f.point.of(f.contestant), margin, figuresFile, n, f.count)
	case 100*n < (100-margin)*f.count:
		verdict += fmt.Sprintf("; write the new figure into %s", figuresFile)
	}
	return verdict, err
}
