# SPDX-License-Identifier: BSD-3-Clause
# platforms.sh runs this script inside of a chroot, with the name of a cell. The checkout is in
# /src, Go in /usr/local/go, and the rest of the system is a minimal Debian. What a cell has run it
# prints in lines that start with "ran:", and with which versions in a line that starts with "with:".
# shellcheck shell=sh disable=SC2164,SC2086 # platforms.sh runs it with -e; lists are words.
cd /src

ran() { echo "ran: $*"; }

with() {
	text="Go $(go env GOVERSION | sed s/go//), $(basename "${CC:-gcc}") $(${CC:-gcc} -dumpfullversion 2>/dev/null || ${CC:-gcc} -dumpversion)"
	text="$text, libevent $(pkg-config --modversion libevent_core | sed s/-stable//)"
	! pkg-config --exists openssl || text="$text, OpenSSL $(pkg-config --modversion openssl)"
	echo "with: $text"
}

install() { apt-get update -q && apt-get install -q -y --no-install-recommends "$@"; }

needed="gcc libc6-dev libevent-dev libssl-dev pkg-config"

# offline runs a command without a network, but with the loopback, which a new network has not up.
# shellcheck disable=SC2016 # The inner shell expands.
offline() {
	unshare --net sh -euc 'perl -MSocket -e '"'"'
		socket(S, AF_INET, SOCK_DGRAM, 0);
		$up = pack("a16 s x22", "lo", 1); # IFF_UP
		ioctl(S, 0x8914, $up) or die "the loopback: $!"; # SIOCSIFFLAGS
	'"'"'; exec "$@"' - "$@"
}

# answers starts an echo server by a command line, and talks to the server.
answers() {
	: >/tmp/server.log
	"$@" >/tmp/server.log 2>&1 &
	server=$!
	until grep -q 'listening on' /tmp/server.log; do
		kill -0 $server || { cat /tmp/server.log; return 1; }
		sleep 0.2
	done
	cat /tmp/server.log
	port=$(sed -n 's/.*listening on [0-9.]*:\([0-9]*\).*/\1/p' /tmp/server.log)
	answer=$(bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; echo hello >&3; head -n 1 <&3")
	kill $server
	wait $server
	[ "$answer" = hello ]
}

# again is a second run of the commands of the README, in which everything is there already.
again() {
	answers ./scripts/run.sh
	go vet ./...
	go test -count=1 -timeout 10m -run TestBuffer .
}

# These words run a command as an ordinary user, who may write only to /home/user and /tmp. They are
# no function, because a function in the background is a process of the shell.
as_user="setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/home/user GOMODCACHE=/root/go/pkg/mod GOCACHE=/home/user/build"

# cross has the packages tested for architecture $1, GOARCH $2, triple $3, and with further
# arguments for go test.
cross() {
	debian=$1 arch=$2 triple=$3
	shift 3
	dpkg --add-architecture "$debian"
	# libevent-dev can be there for one architecture only.
	install gcc libc6-dev pkg-config "gcc-$(echo "$triple" | tr _ -)" "libc6-dev-$debian-cross" "libevent-dev:$debian" "libssl-dev:$debian" openssl qemu-user
	export GOARCH="$arch" CGO_ENABLED=1 CC="$triple-gcc"
	# The folder of i386 is not called after its compiler.
	PKG_CONFIG_LIBDIR=$(dpkg -L "libevent-dev:$debian" | sed -n 's,/libevent_core.pc$,,p')
	export PKG_CONFIG_LIBDIR
	with
	go vet ./...
	ran "go vet ./..."
	go test -count=1 -timeout 30m "$@" .
	go test -count=1 -timeout 30m "$@" ./openssl
	ran "go test" "$(echo "$@" | sed 's/|/, /g')" ". ./openssl"
}

# user_module makes a module in /home/user that uses the package in the module cache, where the
# package gets by way of git, as it does from its own server.
user_module() {
	install $needed git openssl curl
	useradd -m -u 1000 user
	git init -q /src && git -C /src add -A
	git -C /src -c user.name=n -c user.email=e commit -q -m all
	git -C /src tag v0.0.1
	git config --global --add safe.directory /src/.git
	git config --global url.file:///src.insteadOf https://github.com/go-libevent/libevent
	mkdir /home/user/m && cd /home/user/m
	cp /src/examples/echo/main.go .
	go mod init example.com/m
	GOPRIVATE=github.com/go-libevent/libevent GOMODCACHE=/root/cache \
		go get -t github.com/go-libevent/libevent/...@v0.0.1
	chown -R user:user /home/user
	chmod a+rx /root
}

cell_debian() {
	apt-get update -q
	answers ./scripts/run.sh -addr 127.0.0.1:0
	with
	ran scripts/run.sh
	if [ -n "$FULL" ]; then
		./scripts/test.sh
		ran scripts/test.sh
	else
		install openssl curl
		go vet ./...
		ran "go vet ./..."
		go test -count=1 -timeout 20m .
		go test -count=1 -timeout 20m ./openssl
		ran "go test . ./openssl"
	fi
	offline sh -eu scripts/platforms/cells.sh again
	ran "both again without a network"
}

cell_i386() { cross i386 386 i686-linux-gnu; }

# Under qemu a test that starts its own program starts one that the machine cannot run, and the
# thousand handshakes of TestManyConnections take minutes.
emulated() {
	cross "$1" "$1" "$2" -exec "$3" -run 'Buffer|Listen|Connect|RateLimit|Filter|Pair|Verif|Session' -skip ManyConnections
}
cell_arm64() { emulated arm64 aarch64-linux-gnu qemu-aarch64; }
cell_s390x() { emulated s390x s390x-linux-gnu qemu-s390x; }

cell_musl() {
	install gcc libc6-dev make pkg-config musl-tools xz-utils
	echo "deb-src $MIRROR $RELEASE main" >/etc/apt/sources.list.d/src.list
	apt-get update -q
	cd /tmp && apt-get source -q --download-only libevent && tar -xf libevent_*.orig.tar.gz && cd /src
	. scripts/libevent.sh
	export CC=musl-gcc
	from_sources /tmp/libevent-* /opt/libevent "" --disable-openssl || { tail -n 20 /opt/libevent.log; return 1; }
	PKG_CONFIG_PATH=$(pc_dir /opt/libevent)
	export PKG_CONFIG_PATH LD_LIBRARY_PATH=/opt/libevent/lib CGO_LDFLAGS="-L/opt/libevent/lib -O2 -g"
	with
	go build . ./evnet ./examples/echo
	go test -count=1 -timeout 20m .
	ran "go test ."
}

cell_clang() {
	install $needed clang openssl curl
	export CC=clang
	with
	# Go repeats what the compiler says of a package even if it takes the package from its cache. Only
	# the files of the module count, not what cgo generates.
	CGO_CFLAGS="-O2 -g -Wall" go build . ./openssl >/tmp/said 2>&1 || { cat /tmp/said; return 1; }
	while IFS=: read -r file text; do
		file=${file##*/}
		if [ -f "$file" ] || [ -f "openssl/$file" ]; then
			echo "$file: $text"
			return 1
		fi
	done </tmp/said
	ran "no warning with -Wall"
	go test -count=1 -timeout 20m .
	go test -count=1 -timeout 20m ./openssl
	ran "go test . ./openssl"
	[ -z "$FULL" ] || { ./scripts/test.sh; ran scripts/test.sh; }
}

cell_oldest_go() {
	install $needed openssl curl
	GOTOOLCHAIN=go$(sed -n 's/^go //p' go.mod)
	export GOTOOLCHAIN
	with
	go vet ./...
	ran "go vet ./..."
	go tool -modfile=scripts/staticcheck.mod staticcheck -version
	go test -count=1 -timeout 20m .
	go test -count=1 -timeout 20m ./openssl
	ran "go test . ./openssl"
}

cell_not_root() {
	install $needed openssl curl
	with
	useradd -m -u 1000 user
	chmod a+rx /root
	chown -R user /src
	go mod download
	$as_user go test -count=1 -timeout 20m .
	$as_user go test -count=1 -timeout 20m ./openssl
	ran "go test . ./openssl"
	answers $as_user ./scripts/run.sh -addr 127.0.0.1:0
	ran scripts/run.sh
}

cell_module() {
	user_module
	with
	mount --bind -o ro /root/cache /root/cache
	$as_user GOMODCACHE=/root/cache GOFLAGS=-mod=mod go build -o /home/user/echo .
	answers $as_user /home/user/echo -addr 127.0.0.1:0
	for package in libevent libevent/openssl; do
		$as_user GOMODCACHE=/root/cache go test -count=1 -timeout 20m "github.com/go-libevent/$package"
	done
	ran "go test of both packages, by a module that requires them"
}

cell_vendored() {
	user_module
	export GOMODCACHE=/root/cache
	go mod tidy
	go mod vendor
	export GOMODCACHE=/nowhere
	offline go build -mod=vendor -o /home/user/echo .
	with
	answers /home/user/echo -addr 127.0.0.1:0
	ran "go build -mod=vendor of the echo server"
}

cell_build_modes() {
	install $needed
	with
	go build -buildmode=pie -o /tmp/pie ./examples/echo
	answers /tmp/pie -addr 127.0.0.1:0
	ran "pie"
	mkdir lib
	cat >lib/main.go <<-EOF
		package main

		import "C"
		import "github.com/go-libevent/libevent"

		//export turns
		func turns() C.int {
			base, err := libevent.NewBase()
			if err != nil {
				return -1
			}
			defer base.Free()
			n := C.int(0)
			if base.Post(func() { n++ }) != nil || base.Dispatch() != nil {
				return -1
			}
			return n
		}

		func main() {}
	EOF
	printf 'int turns(void);\nint main(void) { return turns() == 1 ? 0 : 1; }\n' >lib/user.c.txt
	libs="-levent_core -levent_extra -levent_pthreads -pthread"
	go build -buildmode=c-archive -o /tmp/libturns.a ./lib
	gcc -x c lib/user.c.txt -x none /tmp/libturns.a $libs -o /tmp/archive
	/tmp/archive
	ran "c-archive"
	go build -buildmode=c-shared -o /tmp/libturns.so ./lib
	gcc -x c lib/user.c.txt -L/tmp -lturns -o /tmp/shared
	LD_LIBRARY_PATH=/tmp /tmp/shared
	ran "c-shared"
}

# instruction prints the words of the last instruction of the Dockerfile whose line starts with $1 and
# has a list in brackets.
instruction() { sed -n "s/^$1.*\[\"\(.*\)\"\]\$/\1/p" Dockerfile | sed 's/", "/ /g'; }

cell_image() {
	sed -n '/^FROM golang/,/^FROM build/s/^RUN //p' Dockerfile >/tmp/steps
	[ -s /tmp/steps ]
	sh -euc '. /tmp/steps'
	with
	du -sh /image
	chmod 755 /image
	offline sh -euc '
		chroot --userspec="$1" /image $2 &
		server=$!
		until chroot --userspec="$1" /image $3; do kill -0 $server; sleep 0.2; done
		kill $server
		wait $server
	' - "$(sed -n 's/^USER //p' Dockerfile)" "$(instruction ENTRYPOINT)" "$(instruction HEALTHCHECK)"
	ran "its build, the server, the health check"
}

case $1 in
debian-*) cell_debian ;;
again) again ;;
*) "cell_$(echo "$1" | tr - _)" ;;
esac
