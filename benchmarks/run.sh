#!/bin/sh
# Installs what a build lacks, then runs the benchmarks; arguments are passed on, as -smoke.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

cd benchmarks
exec go run . "$@"
