#!/bin/sh
# Builds and tests everything against one libevent after the other:
#
#	scripts/matrix.sh PREFIX-OR-SOURCES...
#
# Each argument is where a libevent is installed, or a folder with its sources, which are
# built and installed in a temporary place. Nothing is downloaded.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

[ $# -gt 0 ] || fail "usage: scripts/matrix.sh PREFIX-OR-SOURCES..."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pc_dir prints where the .pc files of a prefix are.
pc_dir() {
	find "$1" -name libevent_core.pc -exec dirname {} \; 2>/dev/null | head -n 1
}

# from_sources builds and installs what is in $1 to $2.
from_sources() {
	cp -Rp "$1" "$2.build" # with the times, that make looks at
	if [ -x "$2.build/configure" ]; then
		(cd "$2.build" && ./configure --prefix="$2" --disable-samples --disable-libevent-regress \
			CFLAGS="-O2 -g" &&
			# A distribution's patches make the tools that wrote configure seem due.
			make -j2 install AUTOCONF=: AUTOHEADER=: AUTOMAKE=: ACLOCAL=:) >"$2.log" 2>&1
	elif [ -f "$2.build/CMakeLists.txt" ] && command -v cmake >/dev/null; then
		# The .pc files of 2.2.1-alpha have the postfix, whatever the type of the build.
		cmake -S "$2.build" -B "$2.build/b" -DCMAKE_INSTALL_PREFIX="$2" -DCMAKE_INSTALL_LIBDIR=lib \
			-DCMAKE_BUILD_TYPE=RelWithDebInfo -DEVENT__DISABLE_TESTS=ON -DEVENT__DISABLE_SAMPLES=ON \
			-DEVENT__DISABLE_BENCHMARK=ON -DEVENT__DISABLE_MBEDTLS=ON \
			-DCMAKE_DEBUG_POSTFIX= >"$2.log" 2>&1 &&
			cmake --build "$2.build/b" -j2 --target install >>"$2.log" 2>&1
	else
		echo "neither ./configure nor, with cmake, CMakeLists.txt is there" >"$2.log"
		return 1
	fi || return 1
	rm -rf "$2.build"
}

# runs says whether a program runs with libevent $1, and nothing else.
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

# testable prints the packages, without those that need TLS if libevent in $1 has none.
testable() {
	for package in $(go list ./...); do
		if [ -n "$(find "$1" -maxdepth 1 -name 'libevent_openssl.*')" ] ||
			! go list -deps -test "$package" | grep -q '/libevent/openssl'; then
			echo "$package"
		else
			echo "left out, for want of TLS: $package" >&2
		fi
	done
}

# check builds and tests against what is installed in $1, which is version $2.
check() (
	PKG_CONFIG_PATH=$(pc_dir "$1")
	libs=$(PKG_CONFIG_PATH=$PKG_CONFIG_PATH "$(go env PKG_CONFIG)" --variable=libdir libevent_core)
	LD_LIBRARY_PATH=$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export PKG_CONFIG_PATH LD_LIBRARY_PATH
	# -levent_extra and its kin stand before what pkg-config says.
	CGO_LDFLAGS="-L$libs -O2 -g"
	export CGO_LDFLAGS
	# The build cache knows nothing of headers: it may have a build against another one.
	CGO_CFLAGS="-O2 -g -DLIBEVENT_MATRIX=$work"
	export CGO_CFLAGS
	runs "$2" || return 1
	packages=$(testable "$libs")
	# shellcheck disable=SC2086 # A list of words.
	go vet $packages &&
		go test -count=1 -timeout 20m $packages &&
		LIBEVENT_PLAIN_IO=1 go test -count=1 -timeout 10m .
)

n=0
failed=0
for where; do
	n=$((n + 1))
	prefix=$work/$n
	[ -d "$where" ] || fail "$where is no folder"
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
