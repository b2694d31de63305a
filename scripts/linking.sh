#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds programs in each way of linking that docs/from-c.md names, and checks which libraries
# they need.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# needs prints the shared libraries that a program needs.
needs() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

# nocgo_remedy expects the build without cgo to fail with the advice in nocgo.go.
nocgo_remedy() {
	! said=$(CGO_ENABLED=0 go build . 2>&1) || fail "the build without cgo succeeded"
	case $said in
	*libevent_needs_cgo*) ;;
	*) fail "the build without cgo does not say what is needed:" "$said" ;;
	esac
}

# missing_remedy expects the build of package $1, with nothing but the .pc files in $2, to name the
# packages in $3. The flag keeps Go from taking a build with headers from its cache.
missing_remedy() {
	! said=$(PKG_CONFIG_PATH='' PKG_CONFIG_LIBDIR="$2" go build -gcflags=-N "$1" 2>&1) || fail "the build of $1 without headers succeeded"
	for package in $3; do
		case $said in
		*"$package"*) ;;
		*) fail "the build of $1 without headers does not name $package:" "$said" ;;
		esac
	done
}

step "without cgo"
nocgo_remedy

step "without headers"
missing_remedy . "$dir" "apt:libevent-dev dnf:libevent-devel apk:libevent-dev brew:libevent"
cp "$("$(go env PKG_CONFIG)" --variable=pcfiledir libevent_core)/libevent_core.pc" "$dir"
missing_remedy ./openssl "$dir" "apt:libssl-dev dnf:openssl-devel apk:openssl-dev brew:openssl@3"

command -v readelf >/dev/null || {
	step "skipped: without readelf the libraries of a program cannot be listed"
	exit 0
}

step "shared libraries"
go build -o "$dir/shared" ./examples/echo
needs "$dir/shared" | grep -q '^libevent_core' || fail "libevent_core is not shared:" "$(needs "$dir/shared")"
! needs "$dir/shared" | grep -qE '^lib(event-|ssl|crypto)' ||
	fail "a second copy of libevent, or OpenSSL, is linked, although the program does not use it:" "$(needs "$dir/shared")"

step "libevent in the program"
if printf 'int main(void) { return 0; }\n' | compiles -l:libevent_core.a; then
	go build -tags libevent_static -o "$dir/static" ./examples/echo
	! needs "$dir/static" | grep -q '^libevent' || fail "libevent is still shared:" "$(needs "$dir/static")"
	go test -tags libevent_static -count=1 ./examples/echo
else
	step "skipped: there is no static libevent here"
fi

step "everything in the program"
if printf '#include <event2/event.h>\nint main(void) { return !event_get_version(); }\n' |
	compiles -static -levent_core; then
	for tag in '' libevent_static; do
		# The linker warns of functions of libc that load shared libraries when they are called.
		said=$(go build -tags "$tag" -ldflags '-linkmode external -extldflags -static' -o "$dir/whole" ./examples/echo 2>&1) ||
			fail "the static program does not build:" "$said"
		[ -z "$(needs "$dir/whole")" ] || fail "with the tag '$tag' the program is not static:" "$(needs "$dir/whole")"
	done
else
	step "skipped: there is no static libevent or C library here"
fi
