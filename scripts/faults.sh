#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Lets every allocation, and many system calls, of all scenarios in internal/faults fail. That
# takes long, so test.sh only runs a selection.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

step "each allocation, all allocations from Free on, and system calls with ${SEEDS:=50} seeds"
go test -count=1 -timeout 240m ./internal/faults -all -seeds "$SEEDS"
