#!/bin/sh
# Builds and runs the echo server; arguments are passed on to it.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

go build -o bin/echo ./examples/echo
# In this process's place: signals reach the server, and its exit code the caller.
exec bin/echo "$@"
