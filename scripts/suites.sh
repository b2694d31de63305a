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
# Some tests fail on package net too, if the machine is busy. So a test that has failed on a loop
# only is run alone, several times on both.
#
# scripts/suites/known has the tests that are left out, with the reasons.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/deps.sh

modes=${MODES:-base group tls}
repository=$(pwd)
temporary= # what is removed at the end
server=    # PostgreSQL's process
trap '[ -z "$server" ] || kill "$server"; [ -z "$temporary" ] || { chmod -R u+w $temporary; rm -rf $temporary; }' EXIT
if [ "${1-}" = -k ]; then
	work=$2
	shift 2
	mkdir -p "$work"
	work=$(cd "$work" && pwd)
else
	work=$(mktemp -d)
	temporary=$work
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
github.com/redis/go-redis/v9 github.com/redis/go-redis/v9@v9.5.1 tls
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
		# net/http's tests look for goroutines that a test has left behind. The loop is none.
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
		leaks=$copy.new/internal/leakcheck/leakcheck.go # gRPC looks for such goroutines too
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
	postgres=$(command -v postgres || find /usr/lib/postgresql -path '*/bin/postgres' | sort -V | tail -n 1)
	[ -n "$postgres" ] || return 1
	initdb=$(dirname "$(readlink -f "$postgres")")/initdb
	data=$(mktemp -d)
	temporary="$temporary $data"
	as=
	if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
		chown nobody "$data"
		as="setpriv --reuid nobody --clear-groups"
	fi
	$as "$initdb" -D "$data/db" -U postgres -A trust >"$work/postgres.log" 2>&1 || return 1
	$as "$postgres" -D "$data/db" -k "$data" -c listen_addresses= -c fsync=off >>"$work/postgres.log" 2>&1 &
	server=$!
	tries=0
	until psql -h "$data" -U postgres -c 'create extension hstore; create extension ltree; create domain uint64 as numeric(20,0)' >>"$work/postgres.log" 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || return 1
		sleep 1
	done
	PGX_TEST_DATABASE="host=$data user=postgres database=postgres"
	export PGX_TEST_DATABASE
}

# prepare_redis puts a Redis where the tests of go-redis, whose sources are in folder $1, start it.
# (Later versions of them want containers.) What they need modules of Redis for fails on net too.
prepare_redis() {
	redis=$(command -v redis-server) || return 1
	mkdir -p "$1/testdata/redis/src"
	ln -sf "$redis" "$1/testdata/redis/src/redis-server"
	printf 'save ""\nenable-debug-command yes\n' >"$1/testdata/redis/redis.conf"
}

known=$repository/scripts/suites/known

# run runs the tests of package $1, whose sources are in folder $2, in mode $3: "net" or a loop.
# The program gets the other arguments. On a loop the known tests are skipped,
# because some end the whole program.
run() (
	package=$1
	mode=$3
	cd "$2"
	shift 3
	skip=
	if [ "$mode" != net ]; then
		skip=$(awk -v package="$package" -v mode="$mode" '
			{ split($2, test, "@"); gsub("/", "$/^", test[1]) }
			$1 == package && (test[2] == "" || test[2] == mode) { printf "%s^%s$", bar, test[1]; bar = "|" }' "$known")
	fi
	EVNET=${mode#net} timeout 1000 "$work/bin/$(echo "$package" | tr / +)" \
		-test.v -test.timeout 900s -test.skip "$skip" "$@" 2>&1 || echo "ended with $?"
)

# failed prints the tests that failed in a file, and how the program ended if by itself. The
# second pattern is Ginkgo's form, in colours.
failed() {
	sed -n 's/^ *--- FAIL: \([^ ]*\) (.*/\1/p
		s/\x1b\[[0-9;]*m//g
		s/^ *\[FAIL\] \(.*\)/spec: \1/p
		s/^\(panic: .*\|fatal error: .*\|SIG[A-Z]*: .*\)/died: \1/p' "$1" | LC_ALL=C sort -u
}

# passed prints how many tests passed in a file.
passed() {
	sed 's/\x1b\[[0-9;]*m//g' "$1" |
		awk '/^ *--- PASS/ { n++ } / Passed / { sub(/ Passed .*/, ""); n += $NF } END { print n + 0 }'
}

# alone runs test $4 of package $1 ten times by itself, and prints how often it failed.
alone() {
	pattern=^$(echo "$4" | sed 's![][().*+?|^$\\{}]!\\&!g; s!/!$/^!g')\$
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		run "$1" "$2" "$3" -test.run "$pattern" </dev/null
	done | grep -c '^ended with' || true
}

# judge reads names of tests of package $1 that have failed in mode $3 and not on net, and prints
# those that only evnet fails. It asks for no test that has failed by a test within it.
judge() {
	awk '{ names[NR] = $0 } END {
		for (i = 1; i <= NR; i++)
			if (index(names[i + 1], names[i] "/") != 1) print names[i] }' |
		while read -r test; do
			case $test in
			*:*) echo "$test" && continue ;; # no name of a test
			esac
			net=$(alone "$1" "$2" net "$test")
			loop=$(alone "$1" "$2" "$3" "$test")
			said="$test: alone it failed $net times of 10 on net, and $loop on $3"
			if [ "$net" = 0 ] && [ "$loop" != 0 ]; then echo "$said"; else echo "    $said" >&2; fi
		done
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
	case $package in
	*go-redis*) prepare_redis "$dir" || { echo "$package: no Redis"; continue; } ;;
	esac
	loosen "$dir"
	compile "$dir" "$package" "$module" "$work/bin/$name" || {
		echo "$package: does not compile"
		continue
	}
	step "$package"
	results=$work/results/$name
	run "$package" "$dir" net </dev/null >"$results.net"
	failed "$results.net" >"$work/failed.net"
	echo "    $(passed "$results.net") passed on net, $(wc -l <"$work/failed.net") failed"
	for mode in $modes; do
		case " $without " in *" $mode "*) continue ;; esac
		run "$package" "$dir" "$mode" </dev/null >"$results.$mode"
		echo "    $(passed "$results.$mode") passed on $mode"
		failed "$results.$mode" | LC_ALL=C comm -13 "$work/failed.net" - | judge "$package" "$dir" "$mode" >"$work/failed.only"
		if [ -s "$work/failed.only" ]; then
			bad=1
			echo "    only evnet fails, on $mode:"
			sed 's/^/        /' "$work/failed.only"
		fi
	done
done <"$work/wanted"
exit "$bad"
