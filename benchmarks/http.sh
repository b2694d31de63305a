#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Measures net/http's server with wrk, over evnet and over package net in turn:
#
#	./http.sh [rounds [seconds [connections]]]
#
# GOMAXPROCS says how many cores each server has, by default 2. wrk uses the same cores.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
command -v wrk >/dev/null || { echo "wrk is not installed" >&2; exit 1; }
rounds=${1:-5} seconds=${2:-5} connections=${3:-64}
GOMAXPROCS=${GOMAXPROCS:-2}
export GOMAXPROCS

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT
go build -o "$dir/http" ./contestants/http

# measure NAME SIZE [flags of the server]
measure() {
	name=$1 size=$2
	shift 2
	"$dir/http" "$@" -port 28080 >"$dir/ready" &
	server=$!
	until grep -q ready "$dir/ready"; do sleep 0.1; done
	wrk -t 1 -c "$connections" -d "$seconds" --latency "http://127.0.0.1:28080/$size" >"$dir/out"
	printf '%-6s %8s bytes  %s\n' "$name" "$size" \
		"$(awk '/99%|Requests.sec|Socket|Non-2xx/ { printf "%s  ", $0 }' "$dir/out")"
	kill "$server"
	wait "$server" 2>/dev/null || true
	server=
}

round=0
while [ "$round" -lt "$rounds" ]; do
	for size in 100 1024 65536; do
		measure net "$size" -net
		measure evnet "$size"
	done
	round=$((round + 1))
done
