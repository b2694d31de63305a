#!/bin/sh
# Measures how well rate limits are kept, against the bounds that libevent holds its
# own test program to. Takes a little over a minute.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

LIBEVENT_RATELIMIT=full go test -count=1 -v -run TestRateLimitRates .
