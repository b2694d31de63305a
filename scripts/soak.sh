#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the tests many times. That takes long, so test.sh does not do it.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

soak() {
	step "$*"
	env "$@" -timeout 60m ./...
}

soak go test -race -count=10 -cpu 1,2,8
soak GOGC=1 go test -count=5
soak go test -gcflags=all=-d=checkptr -count=5
soak go test -shuffle=on -count=10
soak LIBEVENT_LOCK_DEBUGGING=1 go test -count=3

step "2000 random runs, with and without the fast path"
go test -count=1 -timeout 60m -run TestFastPathTwins ./internal/conformance -twins 2000
