// SPDX-License-Identifier: BSD-3-Clause

// Package faults has no code of its own, only tests of what happens when memory or the kernel
// says no. docs/reliability.md tells what follows from that for users. scripts/faults.sh runs
// everything; the tests run a selection.
package faults
