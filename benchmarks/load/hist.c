/* SPDX-License-Identifier: BSD-3-Clause */
// A histogram of latencies. It has 64 steps for each power of two, so it is exact to 1.6 %.
#include "load.h"

#define STEPS 64

static int64_t counts[64 * STEPS];
static int64_t total;

// slot is the index at which a latency is counted.
static int slot(int64_t ns)
{
	if (ns < STEPS)
		return ns < 0 ? 0 : (int)ns;
	int power = 63 - __builtin_clzll((uint64_t)ns);
	return (power - 5) * STEPS + (int)(ns >> (power - 6)) - STEPS;
}

// middle is the inverse of slot: the middle of the latencies that are counted at an index.
static int64_t middle(int s)
{
	if (s < STEPS)
		return s;
	int power = s / STEPS + 5;
	int64_t step = (int64_t)1 << (power - 6);
	return (STEPS + s % STEPS) * step + step / 2;
}

void hist_add(int64_t ns)
{
	counts[slot(ns)]++;
	total++;
}

int64_t hist_count(void) { return total; }

int64_t hist_quantile(double q)
{
	int64_t rank = (int64_t)(q * (double)total), seen = 0;
	for (int s = 0; s < 64 * STEPS; s++) {
		seen += counts[s];
		if (seen > rank)
			return middle(s);
	}
	return 0;
}
