// SPDX-License-Identifier: BSD-3-Clause

package report

import (
	"fmt"
	"html"
	"strings"
)

// Chart is a page of bar charts, one for each cell.
type Chart struct {
	File, Title, About string
	Scenario, Metric   string
	Base               string // bars are ratios to this contestant, or measured values if it is empty
	Cells              []Cell
}

const (
	panelWidth = 430
	barHeight  = 18
	nameWidth  = 112
	barWidth   = 212 // of the longest bar, with its whisker
	top        = 64
)

// style works on light and dark pages. A chart can be read without its colours: every bar has
// its name and its figure.
const style = `<style>
text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}
.cell{font-weight:600}
.about{fill:#59636e}
.ours{fill:#0969da}.c{fill:#6e7781}.peer{fill:#bf8700}
.line{stroke:#1f2328;stroke-width:1}
.base{stroke:#59636e;stroke-width:1;stroke-dasharray:3 3}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.about{fill:#9198a1}
.ours{fill:#4493f8}.c{fill:#8b949e}.peer{fill:#d29922}
.line{stroke:#e6edf3}.base{stroke:#9198a1}
}</style>
`

// class returns the style of a contestant's bars.
func class(contestant string) string {
	switch {
	case strings.HasPrefix(contestant, "libevent"):
		return "ours"
	case strings.HasPrefix(contestant, "c-"):
		return "c"
	}
	return "peer"
}

// SVG draws the chart; ok is false if there is nothing to draw.
func (d *Data) SVG(c Chart) (svg string, ok bool, err error) {
	m, err := metricOf(c.Metric)
	if err != nil {
		return "", false, err
	}
	names := d.contestants(c.Scenario)
	var panels strings.Builder
	drawn := 0
	height := len(names)*barHeight + 36
	for _, cell := range c.Cells {
		bars := d.bars(c, cell, names, m)
		if bars == nil {
			continue
		}
		x, y := drawn%2*panelWidth+16, top+drawn/2*height
		panel(&panels, x, y, cell, names, bars, c.Base != "", m)
		drawn++
	}
	if drawn == 0 {
		return "", false, nil
	}
	w, h := 2*panelWidth+16, top+(drawn+1)/2*height
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t d">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s The same figures are in the tables of benchmarks.md.</desc>\n",
		html.EscapeString(c.Title), html.EscapeString(c.About))
	b.WriteString(style)
	fmt.Fprintf(&b, `<text class="title" x="16" y="24">%s</text>`+"\n", html.EscapeString(c.Title))
	fmt.Fprintf(&b, `<text class="about" x="16" y="42">%s</text>`+"\n", html.EscapeString(c.About))
	b.WriteString(panels.String())
	b.WriteString("</svg>\n")
	return b.String(), true, nil
}

// bars returns a bar for each contestant, or nil if none was measured.
func (d *Data) bars(c Chart, cell Cell, names []string, m metric) []Spread {
	var bars []Spread
	measured := false
	for _, name := range names {
		s := d.absolute(c.Scenario, cell, name, m)
		if c.Base != "" {
			s = d.ratio(c.Scenario, cell, name, c.Base, m)
		}
		measured = measured || s.Rounds > 0
		bars = append(bars, s)
	}
	if !measured {
		return nil
	}
	return bars
}

// panel draws the bars of one cell.
func panel(b *strings.Builder, x, y int, cell Cell, names []string, bars []Spread, ratios bool, m metric) {
	most := 0.0
	for _, s := range bars {
		most = max(most, s.High)
	}
	at := func(v float64) float64 { return float64(x+nameWidth) + v/most*barWidth }
	format := m.format
	if ratios {
		format = plain
	}
	fmt.Fprintf(b, `<text class="cell" x="%d" y="%d">%s</text>`+"\n", x, y+14, cell.title())
	y += 22
	for i, s := range bars {
		row := y + i*barHeight
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, x+nameWidth-6, row+13, html.EscapeString(names[i]))
		if s.Rounds > 0 {
			fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`,
				class(names[i]), x+nameWidth, row+3, s.Median/most*barWidth, barHeight-5)
		}
		if s.Rounds > 1 {
			mid := float64(row) + 3 + float64(barHeight-5)/2
			fmt.Fprintf(b, `<path class="line" fill="none" d="M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6"/>`,
				at(s.Low), mid, at(s.High), at(s.Low), mid-3, at(s.High), mid-3)
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", at(s.High)+6, row+13, Spread{Median: s.Median, Rounds: min(s.Rounds, 1)}.text(format))
	}
	if ratios {
		fmt.Fprintf(b, `<path class="base" d="M%.1f %dv%d"/>`+"\n", at(1), y, len(bars)*barHeight)
	}
}

func (c Cell) title() string {
	connections := "connections"
	if c.Conns == 1 {
		connections = "connection"
	}
	return fmt.Sprintf("%s, %s %s", Size(c.Size), grouped(c.Conns), connections)
}
