#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Measures how exactly rate limits are kept. The bounds are those of libevent's own test
# program. It takes a little over a minute.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

LIBEVENT_RATELIMIT=full go test -count=1 -v -run TestRateLimitRates .
