#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs all checks and all tests, and stops at the first failure.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

# c_warnings compiles the C files of a package as cgo does, but with all warnings as errors.
# CGO_CFLAGS would not do: they also apply to runtime/cgo, which does not compile with them.
# shellcheck disable=SC2046,SC2086 # Flags and lists of files are words.
c_warnings() (
	generated=$(mktemp -d)
	trap 'rm -rf "$generated"' EXIT
	cd "$1"
	cflags="-I. -D_GNU_SOURCE -pthread $(go env CGO_CFLAGS) $($(go env PKG_CONFIG) --cflags libevent_core openssl)"
	go tool cgo -objdir "$generated" -- $cflags $(go list -f '{{join .CgoFiles " "}}' .)
	files=$(go list -f '{{join .CFiles " "}}' .)
	[ "$1" != . ] || files="$files $(echo scripts/tsan/*.c)"
	for file in $files; do
		$(go env CC) $cflags -Wall -Wextra -Werror -isystem "$generated" -c "$file" -o "$generated/o"
	done
)

# lacking_tools prints the programs that tests of TLS lack.
lacking_tools() {
	command -v openssl >/dev/null || echo "the program openssl"
	command -v curl >/dev/null || echo "curl"
}

# lacking_redis prints the first thing that examples/redis lacks.
lacking_redis() {
	if ! "$(go env PKG_CONFIG)" --atleast-version=0.14 hiredis; then
		echo "hiredis with its headers, 0.14 or newer"
	elif ! command -v redis-server >/dev/null; then
		echo "redis-server"
	fi
}

lacking_valgrind() { command -v valgrind >/dev/null || echo valgrind; }

install_missing lacking_tools "openssl@3 curl" "openssl curl" "openssl curl" "openssl curl"

step "shell syntax"
for script in scripts/*.sh examples/*/*.sh; do sh -n "$script"; done
! command -v bash >/dev/null || bash -n .ci/run
if command -v shellcheck >/dev/null; then
	step "shellcheck"
	shellcheck -x -S warning scripts/*.sh examples/*/*.sh .ci/run
fi

step "gofmt"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || fail "gofmt would change:" "$unformatted"

step "go mod tidy"
go mod tidy -diff

step "go vet"
go vet ./...

step "staticcheck"
go tool -modfile=scripts/staticcheck.mod staticcheck ./...

step "types on other systems"
go run ./scripts/types darwin/arm64 freebsd/amd64 openbsd/amd64 linux/386

step "lint"
go run ./scripts/lint

step "coverage of libevent's headers"
go run ./scripts/coverage

step "C warnings"
for package in . openssl; do c_warnings "$package"; done

./scripts/linking.sh

step "tests, with the race detector"
go test -race -count=1 -cpu 1,2 -timeout 10m ./...

step "chaos, with the race detector, for 20 s"
go test -race -count=1 -timeout 10m -v ./internal/chaos -seed 0 -duration 20s

step "tests, without the fast path"
LIBEVENT_PLAIN_IO=1 go test -count=1 -timeout 10m . ./internal/conformance ./openssl

if go list -asan . >/dev/null 2>&1 && echo 'int main(void) { return 0; }' | compiles -fsanitize=address; then
	step "tests, with the address sanitizer"
	go test -asan -count=1 -timeout 10m ./...
else
	step "skipped: the C compiler or Go has no address sanitizer here"
fi

step "tests, with checks of the pointers that Go passes to C"
GOEXPERIMENT=cgocheck2 go test -count=1 -timeout 10m ./...

if [ "$(uname)" = Linux ] && (install_missing lacking_valgrind - valgrind valgrind valgrind); then
	step "instructions of an echo, under valgrind"
	(cd benchmarks && go run ./instructions -check)
else
	step "skipped: the instructions of an echo are counted on Linux, with valgrind"
fi

if (install_missing lacking_redis "hiredis redis" "libhiredis-dev redis-server" \
	"hiredis-dev redis" "hiredis-devel /usr/bin/redis-server"); then
	step "examples/redis, with hiredis and a redis-server"
	(cd examples/redis && go mod tidy -diff && go vet ./... && go test -race -count=1 -timeout 5m ./...)
else
	step "skipped: examples/redis needs hiredis and a redis-server"
fi
