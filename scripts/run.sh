#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds and runs the echo server, and passes its arguments on to it.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

go build -o bin/echo ./examples/echo
# exec replaces the shell: signals reach the server, and the caller gets its exit code.
exec bin/echo "$@"
