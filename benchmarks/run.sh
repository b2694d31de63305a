#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Installs what a build lacks, then runs the benchmarks. Passes its arguments on, for example
# -smoke.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

cd benchmarks
exec go run . "$@"
