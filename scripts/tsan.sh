#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the C half of the binding under the thread sanitizer:
#
#	scripts/tsan.sh SOURCES [SECONDS [SEED]]
#
# First the tests of the packages run. The sanitizer sees the C half there, and what Go calls, but not
# into the libevent of the system. Then a program runs for so many seconds that does what the Go half
# does (scripts/tsan), with a libevent that is built with the sanitizer from SOURCES, a folder.
# scripts/tsan/suppressions has the reports that are known, with their reasons; any other report
# makes the script fail.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh
. scripts/libevent.sh

[ $# -gt 0 ] || fail "usage: scripts/tsan.sh SOURCES [SECONDS [SEED]]"
[ -f "$1/event.c" ] || fail "$1 has no sources of libevent"
cc=$(go env CC)
sanitize="-fsanitize=thread -fno-omit-frame-pointer"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# shellcheck disable=SC2086 # Flags are words.
echo 'int main(void) { return 0; }' | compiles $sanitize ||
	fail "the C compiler has no thread sanitizer here"

# The sanitizer of an older compiler does not start where addresses are too random.
fixed=
! setarch -R true 2>/dev/null || fixed="setarch -R"
options="suppressions=$PWD/scripts/tsan/suppressions second_deadlock_stack=1${TSAN_OPTIONS:+ $TSAN_OPTIONS}"

# Some tests ask for more memory than there is. internal/faults has an allocator of its own. Go leaves
# the symbols out of test programs, and without them the suppressions match nothing.
step "running the tests"
sanitized() {
	TSAN_OPTIONS="$options allocator_may_return_null=1" CGO_CFLAGS="-O1 -g $sanitize" CGO_LDFLAGS=-fsanitize=thread \
		go test -count=1 -timeout 60m -ldflags="-s=0 -w=0" ${fixed:+-exec "$fixed"} "$@"
}
sanitized . ./evnet ./openssl ./internal/conformance
sanitized ./internal/chaos -duration "${2:-60}s"

step "building libevent in $1"
from_sources "$1" "$work/libevent" "$sanitize" || {
	tail -n 20 "$work/libevent.log" >&2
	exit 1
}
PKG_CONFIG_PATH=$(pc_dir "$work/libevent")
export PKG_CONFIG_PATH
pkg_config=$(go env PKG_CONFIG)
libs=$("$pkg_config" --variable=libdir libevent_core)

step "building the C half and what stands for Go"
# shellcheck disable=SC2046,SC2086 # Flags and lists of files are words.
build() {
	flags="-O1 -g -Wall -Wextra $sanitize -D_GNU_SOURCE -pthread -I. $("$pkg_config" --cflags libevent_core)"
	# The header with the declarations of the trampolines.
	go tool cgo -objdir "$work" -- $flags $(go list -f '{{join .CgoFiles " "}}' .)
	$cc $flags -isystem "$work" $(go list -f '{{join .CFiles " "}}' .) scripts/tsan/*.c \
		"-L$libs" -levent_extra -levent_pthreads -levent_core -o "$work/tsan"
}
build

step "running"
TSAN_OPTIONS="$options history_size=4" $fixed "$work/tsan" "${2:-60}" "${3:-1}"
