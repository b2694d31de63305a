#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the test suites of other people's software on package evnet, and prints what fails there
# and not on package net:
#
#	scripts/suites.sh [-k DIR] [SUITE...]
#
# The script copies the Go installation, and edits the copy: net.Listen and net.Dialer go through
# a hook (scripts/suites), and each program of tests has a package that sets the hook. So the
# suites are run as they are: on net, on a base, on a group, and over TLS. MODES may name fewer.
# With -k the work is kept in DIR, where a later run finds it.
#
# scripts/suites/known has the tests that are known to fail, with their reasons.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

modes=${MODES:-base group tls}
repository=$(pwd)
if [ "${1-}" = -k ]; then
	work=$2
	shift 2
	mkdir -p "$work"
	work=$(cd "$work" && pwd)
else
	work=$(mktemp -d)
	trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
fi

# What is run: the name of a package, and the version of its module, or "std". The modes in the
# third column are left out: a server that is another process knows nothing of our TLS.
suites="
net/http std
net/http/httptest std
net/http/httputil std
net/http/fcgi std
net/rpc std
net/rpc/jsonrpc std
net/smtp std
golang.org/x/net/http2 golang.org/x/net@v0.49.0
golang.org/x/net/websocket golang.org/x/net@v0.49.0
golang.org/x/crypto/ssh golang.org/x/crypto@v0.47.0
golang.org/x/crypto/ssh/agent golang.org/x/crypto@v0.47.0
github.com/gorilla/websocket github.com/gorilla/websocket@v1.5.3
github.com/coder/websocket github.com/coder/websocket@v1.8.14
github.com/valyala/fasthttp github.com/valyala/fasthttp@v1.69.0
google.golang.org/grpc/internal/transport google.golang.org/grpc@v1.78.0
google.golang.org/grpc/test google.golang.org/grpc@v1.78.0
github.com/jackc/pgx/v5 github.com/jackc/pgx/v5@v5.8.0 tls
github.com/jackc/pgx/v5/pgconn github.com/jackc/pgx/v5@v5.8.0 tls
github.com/jackc/pgx/v5/pgxpool github.com/jackc/pgx/v5@v5.8.0 tls
"

export GOTOOLCHAIN=local GOWORK=off
real=$(go env GOROOT)

# edit applies a sed script to a file of the copy, and fails if nothing has changed.
edit() {
	sed "$2" "$1" >"$work/edited"
	! cmp -s "$work/edited" "$1" || fail "$1: nothing to edit"
	cat "$work/edited" >"$1"
}

# ours copies a file of scripts/suites to the copy.
ours() { sed '/^\/\/go:build ignore$/d' "$repository/scripts/suites/$1" >"$2"; }

# copy_packages copies the packages of this repository, and the one that they need.
copy_packages() (
	vendor=$work/go/src/vendor/github.com
	rm -rf "$vendor/go-libevent" "$vendor/mattn"
	for package in $(go list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./evnet ./openssl | sed -n 's!^github.com/go-libevent/!!p'); do
		to=$vendor/go-libevent/$package
		mkdir -p "$to"
		find "./${package#libevent}" -maxdepth 1 ! -name '*_test.go' \( -name '*.go' -o -name '*.[ch]' \) -exec cp {} "$to" ';'
	done
	mkdir -p "$vendor/go-libevent/libevent/hook" "$vendor/mattn/go-pointer"
	cp "$(go list -m -f '{{.Dir}}' github.com/mattn/go-pointer)"/*.go "$vendor/mattn/go-pointer"
	rm -f "$vendor"/mattn/go-pointer/*_test.go
	chmod -R u+w "$vendor/mattn"
	ours hook.go "$vendor/go-libevent/libevent/hook/hook.go"
	evnet=$vendor/go-libevent/libevent/evnet
	edit "$evnet/listen.go" 's/lc\.Listen(ctx, network/lc.UnhookedListen(ctx, network/'
	edit "$evnet/dial.go" 's/dialer\.DialContext(/dialer.UnhookedDialContext(/'
	edit "$evnet/names.go" 's/dialer\.DialContext(/dialer.UnhookedDialContext(/'
)

# hook_go makes the copy of the Go installation.
hook_go() {
	[ -d "$work/go" ] || {
		mkdir "$work/go.new"
		for part in VERSION go.env bin lib misc pkg src; do
			[ ! -e "$real/$part" ] || cp -R "$real/$part" "$work/go.new"
		done
		chmod -R u+w "$work/go.new"
		src=$work/go.new/src
		edit "$src/net/dial.go" 's/^func (d \*Dialer) DialContext(/func (d *Dialer) UnhookedDialContext(/
			s/^func (lc \*ListenConfig) Listen(/func (lc *ListenConfig) UnhookedListen(/'
		ours net.go "$src/net/evnet.go"
		ours testing.go "$src/testing/evnet.go"
		# The loop is no goroutine that a test has left behind. (So it is for gRPC, below.)
		edit "$src/net/http/main_test.go" 's/strings.Contains(stack, "created by net.startServer")/strings.Contains(stack, "libevent\/hook.init") || strings.Contains(stack, "libevent.(*Group).Run") || &/'
		mv "$work/go.new" "$work/go"
	}
	copy_packages
}

# source_of prints the folder with the sources of package $1 of module $2.
source_of() {
	if [ "$2" = std ]; then
		echo "$work/go/src/$1"
		return
	fi
	module=${2%@*}
	copy=$work/modules/$(echo "$2" | tr / +)
	if [ ! -d "$copy" ]; then
		mkdir -p "$work/modules"
		from=$(cd "$work" && "$work/go/bin/go" mod download -json "$2" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
		[ -n "$from" ] || return 1
		cp -R "$from" "$copy.new"
		chmod -R u+w "$copy.new"
		leaks=$copy.new/internal/leakcheck/leakcheck.go
		[ ! -e "$leaks" ] ||
			edit "$leaks" 's/"testing.Main(",/& "libevent\/hook.init", "libevent.(*Group).Run",/'
		mv "$copy.new" "$copy"
	fi
	echo "$copy${1#"$module"}"
}

# loosen has the tests in folder $1 ask for a method where they ask for a type that has it.
loosen() {
	for file in "$1"/*_test.go; do
		sed 's/\.(\*net\.\(TCP\|Unix\)Conn)\.CloseWrite()/.(interface{ CloseWrite() error }).CloseWrite()/
			s/\.(\*net\.TCPConn)\.SetLinger(/.(interface{ SetLinger(int) error }).SetLinger(/' "$file" >"$work/edited"
		cmp -s "$work/edited" "$file" || cat "$work/edited" >"$file"
	done
}

# compile builds the tests of package $2, whose sources are in folder $1. In its own folder the
# standard library would want the packages that were added to it listed as its modules.
compile() (
	if [ "$3" = std ]; then
		cd "$work"
	else
		cd "$1"
		export GOFLAGS=-mod=mod
	fi
	GOROOT="$work/go" "$work/go/bin/go" test -c -vet=off -o "$4" ${RACE:+-race} "$2"
)

# start_postgres starts a PostgreSQL for pgx, which finds it by the environment.
start_postgres() {
	[ -z "${PGX_TEST_DATABASE-}" ] || return 0
	postgres=$(command -v postgres) && initdb=$(command -v initdb || ls "$(dirname "$(readlink -f "$postgres")")/initdb") || return 1
	data=$(mktemp -d)
	run=
	if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
		chown nobody "$data"
		run="setpriv --reuid nobody --clear-groups"
	fi
	$run "$initdb" -D "$data/db" -U postgres -A trust >"$work/postgres.log" 2>&1 || return 1
	$run "$postgres" -D "$data/db" -k "$data" -c listen_addresses= -c fsync=off >>"$work/postgres.log" 2>&1 &
	server=$!
	trap 'kill "$server"; rm -rf "$data"' EXIT
	tries=0
	until psql -h "$data" -U postgres -c 'create extension hstore; create extension ltree; create domain uint64 as numeric(20,0)' >>"$work/postgres.log" 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || return 1
		sleep 1
	done
	PGX_TEST_DATABASE="host=$data user=postgres database=postgres"
	export PGX_TEST_DATABASE
}

known=$repository/scripts/suites/known

# run runs the tests of package $1, whose sources are in folder $2, in mode $3: "net" or a loop.
# On a loop the tests that are known to fail are skipped, because some end the whole program.
run() (
	name=$(echo "$1" | tr / +)
	cd "$2"
	mode=
	skip=
	if [ "$3" != net ]; then
		mode=$3
		skip=$(awk -v package="$1" -v mode="$3" '
			{ split($2, test, "@"); gsub("/", "$/^", test[1]) }
			$1 == package && (test[2] == "" || test[2] == mode) { printf "%s^%s$", bar, test[1]; bar = "|" }' "$known")
	fi
	EVNET=$mode timeout 1000 "$work/bin/$name" -test.v -test.timeout 900s -test.skip "$skip" \
		>"$work/results/$name.$3" 2>&1 || echo "ended with $?" >>"$work/results/$name.$3"
)

# failed prints the tests that failed in a file, and how the program ended if by itself.
failed() {
	sed -n 's/^ *--- FAIL: \([^ ]*\) (.*/\1/p
		s/^\(panic: .*\|fatal error: .*\|SIG[A-Z]*: .*\)/died: \1/p' "$1" | sort -u
}

passed() { grep -c '^ *--- PASS' "$1" || true; }

# compare prints what failed in file $2 and not in file $1.
compare() {
	failed "$1" >"$work/failed.net"
	failed "$2" | comm -13 "$work/failed.net" - | sed 's/^/    /'
}

step "a copy of Go $(go env GOVERSION)"
hook_go
mkdir -p "$work/results" "$work/bin"
bad=0
for wanted in "${@:-/}"; do
	echo "$suites" | grep -F -- "$wanted" || fail "no suite has $wanted in its name"
done >"$work/wanted"
while read -r package module without; do
	name=$(echo "$package" | tr / +)
	case $package in
	*pgx*) start_postgres || { echo "$package: no PostgreSQL"; continue; } ;;
	esac
	dir=$(source_of "$package" "$module") || { echo "$package: the module cannot be downloaded"; continue; }
	loosen "$dir"
	compile "$dir" "$package" "$module" "$work/bin/$name" || {
		echo "$package: does not compile"
		continue
	}
	step "$package"
	run "$package" "$dir" net
	echo "    $(passed "$work/results/$name.net") passed on net, $(failed "$work/results/$name.net" | wc -l) failed"
	for mode in $modes; do
		case " $without " in *" $mode "*) continue ;; esac
		run "$package" "$dir" "$mode"
		only=$(compare "$work/results/$name.net" "$work/results/$name.$mode")
		echo "    $(passed "$work/results/$name.$mode") passed on $mode"
		if [ -n "$only" ]; then
			bad=1
			echo "    only evnet fails, on $mode:"
			echo "$only"
		fi
	done
done <"$work/wanted"
exit "$bad"
