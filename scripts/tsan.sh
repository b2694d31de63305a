#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the C half of the binding under the thread sanitizer:
#
#	scripts/tsan.sh SOURCES [SECONDS [SEED]]
#
# SOURCES is a folder with the sources of libevent, which is built with the sanitizer, too. The
# program in scripts/tsan does what the Go half does. scripts/tsan/suppressions has the reports
# that are known, with their reasons; any other report makes the script fail.
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

# The sanitizer of an older compiler does not start where addresses are too random.
fixed=
! setarch -R true 2>/dev/null || fixed="setarch -R"
step "running"
TSAN_OPTIONS="suppressions=scripts/tsan/suppressions history_size=4 second_deadlock_stack=1${TSAN_OPTIONS:+ $TSAN_OPTIONS}" \
	$fixed "$work/tsan" "${2:-60}" "${3:-1}"
