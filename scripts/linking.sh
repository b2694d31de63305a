#!/bin/sh
# Builds programs in each way of linking that the README names, and checks which libraries
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

step "without cgo"
nocgo_remedy

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
if printf 'int main(void) { return 0; }\n' | compiles -Wl,-Bstatic -levent_core -Wl,-Bdynamic; then
	go build -tags libevent_static -o "$dir/static" ./examples/echo
	! needs "$dir/static" | grep -q '^libevent' || fail "libevent is still shared:" "$(needs "$dir/static")"
	go test -tags libevent_static -count=1 ./examples/echo
else
	step "skipped: there is no static libevent here"
fi
