#!/bin/sh
# Does to connections what a program may do, all at once and at random, and checks each byte:
#
#	scripts/chaos.sh [SEED [DURATION [race|asan|plain [FLAGS...]]]]
#
# Without arguments it takes a seed from the clock, lasts 30 minutes and uses the race detector.
# FLAGS are those of internal/chaos: -kinds and -ops leave things out, to find the smallest
# program that fails.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

seed=${1:-0}
duration=${2:-30m}
build=${3:-race}
[ $# -lt 3 ] && shift $# || shift 3
case $build in
race | asan) build=-$build ;;
plain) build= ;;
*) fail "usage: scripts/chaos.sh [SEED [DURATION [race|asan|plain [FLAGS...]]]]" ;;
esac

step "chaos, seed $seed, for $duration"
# The run ends by itself, and a hung one reports that.
# shellcheck disable=SC2086 # No word is no flag.
go test -count=1 -timeout 0 -v $build ./internal/chaos -seed "$seed" -duration "$duration" "$@"
