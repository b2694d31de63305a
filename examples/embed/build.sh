#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds the program, whose name is the first argument. All other arguments are passed to
# go build: ./build.sh embed -race
set -eu
cd -- "$(dirname -- "$0")"
program=${1:-embed}
[ $# -eq 0 ] || shift

archive=$(mktemp -d)
trap 'rm -rf "$archive"' EXIT
go build -buildmode=c-archive "$@" -o "$archive/libservice.a" ./service

sanitize=
for flag; do
	case $flag in
	-asan) sanitize='-fsanitize=address -fno-omit-frame-pointer' ;;
	-race) sanitize=-no-pie ;; # Go's race detector needs the program's data below its heap
	esac
done
cflags=$("$(go env PKG_CONFIG)" --cflags libevent_core)
libs=$("$(go env PKG_CONFIG)" --libs libevent_core)
# Do not add -levent: it is a second copy of what -levent_core has.
# shellcheck disable=SC2046,SC2086 # Flags are words.
$(go env CC) -std=gnu99 -Wall -Wextra -Werror -O2 -g $sanitize ${CFLAGS:-} -pthread -Iservice -isystem "$archive" $cflags \
	host/main.c host/lines.c "$archive/libservice.a" \
	${LDFLAGS:-} $libs -levent_pthreads -levent_extra -o "$program"
