#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds and tests everything against several versions of libevent:
#
#	scripts/matrix.sh PREFIX-OR-SOURCES...
#
# Each argument is a folder where a libevent is installed, or a folder with its sources. The
# script builds sources and installs them in a temporary folder. It downloads nothing.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh
. scripts/libevent.sh

[ $# -gt 0 ] || fail "usage: scripts/matrix.sh PREFIX-OR-SOURCES..."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# runs succeeds if a program runs with libevent $1 and not with another version.
runs() {
	go build -o "$work/echo" ./examples/echo || return 1
	rm -f "$work/echo.out"
	"$work/echo" -addr 127.0.0.1:0 >"$work/echo.out" &
	pid=$!
	until [ -s "$work/echo.out" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
	kill $pid 2>/dev/null || true
	wait $pid || true
	grep -q "libevent $1[-,]" "$work/echo.out" || {
		echo "a program that should run with libevent $1 says:" >&2
		cat "$work/echo.out" >&2
		return 1
	}
}

# testable prints the packages. If the libevent in $1 has no TLS, it leaves out those that need it.
testable() {
	for package in $(go list ./...); do
		if [ -n "$(find "$1" -maxdepth 1 -name 'libevent_openssl.*')" ] ||
			! go list -deps -test "$package" | grep -q '/libevent/openssl'; then
			echo "$package"
		else
			echo "left out, because this libevent has no TLS: $package" >&2
		fi
	done
}

# check builds and tests against the libevent that is installed in $1 and has version $2.
check() (
	PKG_CONFIG_PATH=$(pc_dir "$1")
	libs=$(PKG_CONFIG_PATH=$PKG_CONFIG_PATH "$(go env PKG_CONFIG)" --variable=libdir libevent_core)
	LD_LIBRARY_PATH=$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export PKG_CONFIG_PATH LD_LIBRARY_PATH
	# The linker flags of the package come before those of pkg-config, so the folder of the
	# libraries has to be named earlier.
	CGO_LDFLAGS="-L$libs -O2 -g"
	export CGO_LDFLAGS
	# The build cache does not notice other headers, and could return a build against another
	# libevent. A flag that differs for each run prevents that.
	CGO_CFLAGS="-O2 -g -DLIBEVENT_MATRIX=$work"
	export CGO_CFLAGS
	runs "$2" || return 1
	packages=$(testable "$libs")
	# shellcheck disable=SC2086 # A list of words.
	go vet $packages &&
		go test -count=1 -timeout 20m $packages &&
		LIBEVENT_PLAIN_IO=1 go test -count=1 -timeout 10m . ./internal/conformance
)

n=0
failed=0
for where; do
	n=$((n + 1))
	prefix=$work/$n
	[ -d "$where" ] || fail "$where is not a folder"
	if [ -f "$where/event.c" ] && [ -f "$where/bufferevent.c" ]; then
		step "building $where"
		if ! from_sources "$where" "$prefix"; then
			tail -n 20 "$prefix.log" >&2
			echo "$where: does not build" >>"$work/table"
			failed=1
			continue
		fi
	else
		prefix=$where
	fi
	if [ -z "$(pc_dir "$prefix")" ]; then
		echo "$where: no libevent_core.pc" >>"$work/table"
		failed=1
		continue
	fi
	version=$(PKG_CONFIG_PATH=$(pc_dir "$prefix") "$(go env PKG_CONFIG)" --modversion libevent_core)
	step "libevent $version of $where"
	if check "$prefix" "$version"; then
		echo "$version: passed ($where)" >>"$work/table"
	else
		echo "$version: FAILED ($where)" >>"$work/table"
		failed=1
	fi
done
step "libevents"
cat "$work/table"
exit "$failed"
