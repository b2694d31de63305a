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
			CFLAGS="-O2 -g" && make -j2 install) >"$2.log" 2>&1
	elif [ -f "$2.build/CMakeLists.txt" ] && command -v cmake >/dev/null; then
		cmake -S "$2.build" -B "$2.build/b" -DCMAKE_INSTALL_PREFIX="$2" -DCMAKE_INSTALL_LIBDIR=lib \
			-DCMAKE_BUILD_TYPE=RelWithDebInfo -DEVENT__DISABLE_TESTS=ON -DEVENT__DISABLE_SAMPLES=ON \
			-DEVENT__DISABLE_BENCHMARK=ON -DEVENT__DISABLE_MBEDTLS=ON >"$2.log" 2>&1 &&
			cmake --build "$2.build/b" -j2 --target install >>"$2.log" 2>&1
	else
		echo "neither ./configure nor, with cmake, CMakeLists.txt is there" >"$2.log"
		return 1
	fi || return 1
	rm -rf "$2.build"
}

# check builds and tests against what is installed in $1.
check() (
	PKG_CONFIG_PATH=$(pc_dir "$1")
	libs=$(PKG_CONFIG_PATH=$PKG_CONFIG_PATH "$(go env PKG_CONFIG)" --variable=libdir libevent_core)
	LD_LIBRARY_PATH=$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export PKG_CONFIG_PATH LD_LIBRARY_PATH
	# -levent_extra and its kin stand before what pkg-config says.
	CGO_LDFLAGS="-L$libs -O2 -g"
	export CGO_LDFLAGS
	go vet ./... &&
		go test -count=1 -timeout 20m ./... &&
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
	if check "$prefix"; then
		echo "$version: passed ($where)" >>"$work/table"
	else
		echo "$version: FAILED ($where)" >>"$work/table"
		failed=1
	fi
done
step "libevents"
cat "$work/table"
exit "$failed"
