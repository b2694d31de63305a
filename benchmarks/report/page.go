// SPDX-License-Identifier: BSD-3-Clause

package report

import (
	_ "embed"
	"os"
	"path/filepath"
	"slices"
	"text/template"
)

// page is the text of docs/benchmarks.md, with places for the tables.
//
//go:embed benchmarks.md.tmpl
var page string

// ShownScenario is the scenario of which the charts and the README show some cells.
const ShownScenario = "echo"

// Shown reports whether the charts or the README show a cell.
func Shown(size, conns int) bool {
	return slices.ContainsFunc(slices.Concat(headline, readme), func(c Cell) bool { return c.Size == size && c.Conns == conns })
}

// readme has the cells that the README names and the charts do not.
var readme = []Cell{
	{Size: 64, Conns: 100, Depth: 1, Loops: 1},
	{Size: 64 << 10, Conns: 100, Depth: 1, Loops: 1},
}

var headline = []Cell{
	{Size: 64, Conns: 1, Depth: 1, Loops: 1},
	{Size: 1 << 10, Conns: 100, Depth: 1, Loops: 1},
	{Size: 64, Conns: 1000, Depth: 1, Loops: 1},
	{Size: 1 << 10, Conns: 10000, Depth: 1, Loops: 1},
	{Size: 16 << 10, Conns: 10, Depth: 1, Loops: 1},
	{Size: 1 << 20, Conns: 10, Depth: 1, Loops: 1},
}

var charts = []Chart{
	{"benchmarks-cpu.svg", "Echo: server CPU per message, C libevent = 1",
		"Less is better. Bars are medians; lines go from quartile to quartile.", ShownScenario, "cpu", "c-book", headline},
	{"benchmarks-rate.svg", "Echo: messages a second, C libevent with TCP_NODELAY = 1",
		"More is better. Bars are medians; lines go from quartile to quartile.", ShownScenario, "rate", "c-book-nodelay", headline},
	{"benchmarks-latency.svg", "Echo: 99th percentile of the latency",
		"Less is better. Bars are medians; lines go from quartile to quartile.", ShownScenario, "p99", "", headline},
	{"benchmarks-memory.svg", "Memory of an idle connection, in user space",
		"Less is better. Resident memory of the server, divided by its connections; the kernel's is not in it.",
		"idle", "perconn", "", []Cell{{Size: 64, Conns: 10000, Depth: 1, Loops: 1}}},
}

// WriteTo writes benchmarks.md and its charts to a folder. counts has the counts of
// instructions, or is nil.
func (d *Data) WriteTo(dir string, counts *Data) error {
	drawn := map[string]bool{}
	for _, c := range charts {
		svg, ok, err := d.SVG(c)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, c.File)
		if !ok { // a chart of an earlier run must not stay
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return err
			}
			continue
		}
		drawn[c.File] = true
		if err := os.WriteFile(path, []byte(svg), 0o644); err != nil {
			return err
		}
	}
	t, err := template.New("benchmarks.md").Funcs(template.FuncMap{
		"table":   d.Table,
		"figures": d.Figures,
		"calls":   d.Calls,
		"counts":  counts.Counts,
		"steady":  d.Steadiness,
		"drawn":   func(name string) bool { return drawn[name] },
	}).Parse(page)
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		return err
	}
	err = t.Execute(file, d)
	if e := file.Close(); err == nil {
		err = e
	}
	return err
}
