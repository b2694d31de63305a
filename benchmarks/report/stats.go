// SPDX-License-Identifier: BSD-3-Clause

package report

import (
	"slices"
)

// Data has all facts and records of a run.
type Data struct {
	Facts   []Fact
	Records []Record
}

// Cell has the numbers with which a scenario was measured.
type Cell struct{ Size, Conns, Depth, Loops int }

func (r *Record) cell() Cell { return Cell{r.Size, r.Conns, r.Depth, r.Loops} }

// Spread is a median over rounds, with the quartiles.
type Spread struct {
	Median, Low, High float64
	Rounds            int
}

// within reports whether the quartiles are that near to the median.
func (s Spread) within(share float64) bool {
	return s.Median-s.Low <= share*s.Median && s.High-s.Median <= share*s.Median
}

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	return Spread{quantile(v, 0.5), quantile(v, 0.25), quantile(v, 0.75), len(v)}
}

// quantile returns what a share q of the sorted values is below of, between two of them if
// need be.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	low, high := sorted[i], sorted[min(i+1, len(sorted)-1)]
	return low + (high-low)*(at-float64(i))
}

// cells returns the cells of a scenario, ordered by size, then by connections.
func (d *Data) cells(scenario string) (cells []Cell) {
	for _, r := range d.Records {
		if r.Scenario == scenario && !slices.Contains(cells, r.cell()) {
			cells = append(cells, r.cell())
		}
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		if a.Size != b.Size {
			return a.Size - b.Size
		}
		return a.Conns - b.Conns
	})
	return cells
}

// contestants returns the contestants of a scenario, in the order of the first round.
func (d *Data) contestants(scenario string) (names []string) {
	for _, r := range d.Records {
		if r.Scenario == scenario && !slices.Contains(names, r.Contestant) {
			names = append(names, r.Contestant)
		}
	}
	return names
}

// values returns the values of a metric by round.
func (d *Data) values(scenario string, c Cell, contestant string, m metric) map[int]float64 {
	rounds := map[int]float64{}
	for i := range d.Records {
		r := &d.Records[i]
		if r.Scenario == scenario && r.cell() == c && r.Contestant == contestant && m.of(r) != 0 {
			rounds[r.Round] = m.of(r)
		}
	}
	return rounds
}

// absolute returns the spread of a metric over all rounds.
func (d *Data) absolute(scenario string, c Cell, contestant string, m metric) Spread {
	var v []float64
	for _, x := range d.values(scenario, c, contestant, m) {
		v = append(v, x)
	}
	return spread(v)
}

// ratio divides a metric by the base's of the same round, and returns the spread of these ratios
// over all rounds. So a disturbance of a whole round does not change it.
func (d *Data) ratio(scenario string, c Cell, contestant, base string, m metric) Spread {
	var v []float64
	to := d.values(scenario, c, base, m)
	for round, x := range d.values(scenario, c, contestant, m) {
		if to[round] != 0 {
			v = append(v, x/to[round])
		}
	}
	return spread(v)
}
