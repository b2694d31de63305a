// SPDX-License-Identifier: BSD-3-Clause

package report

import (
	"fmt"
	"strings"
)

type metric struct {
	name   string
	of     func(*Record) float64
	format func(float64) string
}

var metrics = map[string]metric{
	"cpu":          {"CPU per message", func(r *Record) float64 { return r.CPU }, duration},
	"user":         {"user time", func(r *Record) float64 { return r.User }, duration},
	"system":       {"system time", func(r *Record) float64 { return r.System }, duration},
	"rate":         {"messages/s", func(r *Record) float64 { return r.Rate }, count},
	"p50":          {"p50", func(r *Record) float64 { return r.P50 }, duration},
	"p99":          {"p99", func(r *Record) float64 { return r.P99 }, duration},
	"p99.9":        {"p99.9", func(r *Record) float64 { return r.P999 }, duration},
	"rss":          {"resident", func(r *Record) float64 { return r.RSS }, bytesOf},
	"perconn":      {"bytes/connection", func(r *Record) float64 { return r.PerConn }, bytesOf},
	"instructions": {"instructions", func(r *Record) float64 { return r.Instructions }, whole},
	"syscalls":     {"system calls", func(r *Record) float64 { return r.Syscalls }, plain},
}

func metricOf(name string) (metric, error) {
	m, ok := metrics[name]
	if !ok {
		return m, fmt.Errorf("there is no metric %q", name)
	}
	return m, nil
}

func duration(ns float64) string {
	switch {
	case ns >= 1e6:
		return digits(ns/1e6) + " ms"
	case ns >= 1e3:
		return digits(ns/1e3) + " µs"
	}
	return digits(ns) + " ns"
}

func count(n float64) string {
	switch {
	case n >= 1e6:
		return digits(n/1e6) + " M"
	case n >= 1e3:
		return digits(n/1e3) + " k"
	}
	return digits(n)
}

func bytesOf(n float64) string {
	switch {
	case n >= 1<<20:
		return digits(n/(1<<20)) + " MiB"
	case n >= 1<<10:
		return digits(n/(1<<10)) + " KiB"
	}
	return digits(n) + " B"
}

func plain(n float64) string { return fmt.Sprintf("%.2f", n) }

func whole(n float64) string { return grouped(int(n)) }

// digits formats a number with three digits.
func digits(x float64) string {
	switch {
	case x >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case x >= 9.995:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// Size formats a number of bytes, with the largest unit that divides it.
func Size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

func (c Cell) String() string {
	s := fmt.Sprintf("%s × %s", Size(c.Size), grouped(c.Conns))
	if c.Depth > 1 {
		s += fmt.Sprintf(", %d deep", c.Depth)
	}
	return s
}

func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

func (s Spread) text(format func(float64) string) string {
	switch {
	case s.Rounds == 0:
		return "–"
	case s.Rounds == 1:
		return format(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", format(s.Median), format(s.Low), format(s.High))
}

// Table returns a table with a line for each cell and a column for each contestant. The base's
// column has measured values, the others have ratios to them.
func (d *Data) Table(scenario, base, metric string) (string, error) {
	m, err := metricOf(metric)
	if err != nil {
		return "", err
	}
	names := d.contestants(scenario)
	if len(names) == 0 {
		return "*Not measured in this run.*\n", nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", m.name)
	for _, name := range names {
		fmt.Fprintf(&b, " %s |", name)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(names)) + "\n")
	for _, c := range d.cells(scenario) {
		fmt.Fprintf(&b, "| %s |", c)
		for _, name := range names {
			if name == base {
				fmt.Fprintf(&b, " %s |", d.absolute(scenario, c, name, m).text(m.format))
			} else {
				fmt.Fprintf(&b, " %s |", d.ratio(scenario, c, name, base, m).text(plain))
			}
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// Figures returns a table with a line for each cell and contestant, and the measured values of
// the named metrics.
func (d *Data) Figures(scenario string, names ...string) (string, error) {
	var b strings.Builder
	b.WriteString("| size × connections | contestant |")
	for _, name := range names {
		m, err := metricOf(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " %s |", m.name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("--:|", len(names)) + "\n")
	for _, c := range d.cells(scenario) {
		for _, contestant := range d.contestants(scenario) {
			fmt.Fprintf(&b, "| %s | %s |", c, contestant)
			for _, name := range names {
				m := metrics[name]
				fmt.Fprintf(&b, " %s |", d.absolute(scenario, c, contestant, m).text(m.format))
			}
			b.WriteString("\n")
		}
	}
	return b.String(), nil
}

// Counts returns a table with a line for each contestant and a column for each cell, and the
// instructions that a message needs.
func (d *Data) Counts(scenario string) string {
	if d == nil || len(d.cells(scenario)) == 0 {
		return "*Not counted yet.*\n"
	}
	var b strings.Builder
	b.WriteString("| instructions per echo |")
	cells := d.cells(scenario)
	for _, c := range cells {
		fmt.Fprintf(&b, " %s |", c)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(cells)) + "\n")
	m := metrics["instructions"]
	for _, name := range d.contestants(scenario) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, c := range cells {
			fmt.Fprintf(&b, " %s |", d.absolute(scenario, c, name, m).text(m.format))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Steadiness says how far the quartiles of the CPU per message are from the medians, where the
// charts and the README show them.
func (d *Data) Steadiness() string {
	const near = 0.05
	cpu := metrics["cpu"]
	steady, all := 0, 0
	for _, c := range d.cells(ShownScenario) {
		if !Shown(c.Size, c.Conns) {
			continue
		}
		for _, name := range d.contestants(ShownScenario) {
			if s := d.absolute(ShownScenario, c, name, cpu); s.Rounds > 0 {
				all++
				if s.within(near) {
					steady++
				}
			}
		}
	}
	return fmt.Sprintf("%d of %d", steady, all)
}

// Calls returns a table of the system calls of each cell and contestant.
func (d *Data) Calls(scenario string) string {
	if len(d.cells(scenario)) == 0 {
		return "*Not counted in this run.*\n"
	}
	var b strings.Builder
	b.WriteString("| size × connections | contestant | calls per echo | which |\n|---|---|--:|---|\n")
	for _, c := range d.cells(scenario) {
		for _, r := range d.Records {
			if r.Scenario == scenario && r.cell() == c {
				fmt.Fprintf(&b, "| %s | %s | %.2f | %s |\n", c, r.Contestant, r.Syscalls, r.Detail)
			}
		}
	}
	return b.String()
}
