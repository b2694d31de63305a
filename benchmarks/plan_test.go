// SPDX-License-Identifier: BSD-3-Clause

package main

import "testing"

func TestRoundsOfACell(t *testing.T) {
	echo, shown, other := scenario{name: "echo"}, cell{64, 100}, cell{64, 10}
	for _, c := range []struct {
		n    rounds
		s    scenario
		c    cell
		want int
	}{
		{rounds{3, 9}, echo, shown, 9},
		{rounds{3, 9}, echo, other, 3},
		{rounds{3, 9}, scenario{name: "loops"}, shown, 3},
		{rounds{3, 9}, scenario{name: "syscalls", rounds: 1}, shown, 1},
		{rounds{9, 3}, echo, shown, 9},
		{rounds{all: 1}, echo, shown, 1},
	} {
		if got := c.n.of(c.s, c.c); got != c.want {
			t.Errorf("%v of %s, %v: %d rounds instead of %d", c.n, c.s.name, c.c, got, c.want)
		}
	}
}
