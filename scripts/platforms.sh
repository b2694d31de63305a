#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds and tests the package on other systems, as far as one Debian machine can show that, and
# prints the table of docs/platforms.md:
#
#	scripts/platforms.sh [-full] [CELL...]
#
# Each cell is a line of the table, and runs in a fresh chroot: what it installs is on top of a
# minimal Debian that debootstrap makes once. With -full the cells of whole systems run all of
# test.sh. Debians, packages, modules and build caches are kept in the folder LIBEVENT_PLATFORMS,
# by default in ~/.cache. The script needs root, for chroot and mount.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

fail() {
	printf '%s\n' "$@" >&2
	exit 1
}

# Name, release of Debian, and title of each cell. scripts/platforms/cells.sh has what it runs.
cells='
debian-11 bullseye Debian 11
debian-12 bookworm Debian 12
debian-13 trixie Debian 13
debian-sid sid Debian sid
i386 bookworm 32 bits: i386
arm64 bookworm arm64, by qemu
s390x bookworm big endian: s390x, by qemu
musl bookworm musl, without kernel headers, without OpenSSL
clang trixie clang
oldest-go bookworm the oldest Go of go.mod
not-root bookworm an ordinary user
module bookworm a module in a read-only cache
vendored bookworm a vendored module
build-modes bookworm pie, c-archive and c-shared
image bookworm the steps of the Dockerfile
'

full=
[ "${1-}" != -full ] || { full=1; shift; }
for wanted; do
	echo "$cells" | grep -q "^$wanted " || fail "no cell is called $wanted; there are: $(echo "$cells" | cut -d ' ' -f 1 | xargs)"
done
[ "$(id -u)" = 0 ] || fail "chroot and mount need root"
command -v debootstrap >/dev/null || fail "debootstrap is missing; type: apt-get install debootstrap"

cache=${LIBEVENT_PLATFORMS:-${XDG_CACHE_HOME:-$HOME/.cache}/libevent-platforms}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
logs=$cache/logs
results=$cache/results
mkdir -p "$logs" "$results" "$cache/mod"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
[ -n "$mirror" ] || fail "apt knows no mirror of Debian"
goroot=$(go env GOROOT)

# debian makes the minimal Debian of release $1, if it is not there.
debian() {
	[ ! -d "$cache/$1" ] || return 0
	echo "==> Debian $1"
	rm -rf "$cache/$1.new"
	mkdir -p "$cache/debs/$1" "$cache/lists/$1"
	debootstrap --variant=minbase --include=ca-certificates --cache-dir="$cache/debs/$1" \
		"$1" "$cache/$1.new" "$mirror" >"$logs/$1.debootstrap" 2>&1 ||
		fail "debootstrap failed: see $logs/$1.debootstrap"
	mv "$cache/$1.new" "$cache/$1"
}

# inside runs cell $1 on Debian $2. It has mounts of its own, which end with it. apt's caches serve one
# cell at a time. Cells of a release share a build cache, because they have the same headers.
# shellcheck disable=SC2016 # The inner shell expands.
inside() {
	work=$cache/work/$1
	root=$work/root
	rm -rf "$work"
	mkdir -p "$work/upper" "$work/work" "$root" "$cache/build/$2" "$cache/debs/$2" "$cache/lists/$2"
	export root work cache goroot full mirror
	cell=$1 release=$2 flock "$cache/$2.lock" unshare --mount --pid --fork --kill-child sh -euc '
		mount -t overlay overlay -o "lowerdir=$cache/$release,upperdir=$work/upper,workdir=$work/work" "$root"
		bind() { mkdir -p "$root$2" && mount --bind "$1" "$root$2"; }
		bind "$goroot" /usr/local/go
		bind "$cache/debs/$release" /var/cache/apt/archives
		bind "$cache/lists/$release" /var/lib/apt/lists
		bind "$cache/mod" /root/go/pkg/mod
		bind "$cache/build/$release" /root/.cache/go-build
		bind /dev /dev
		mount -t proc proc "$root/proc"
		mount -t sysfs sysfs "$root/sys"
		mount -t tmpfs tmpfs "$root/tmp"
		printf "127.0.0.1 localhost %s\n::1 localhost\n" "$(hostname)" >"$root/etc/hosts"
		cat /etc/resolv.conf >"$root/etc/resolv.conf"
		# A mirror may be a snapshot whose date has passed.
		echo "Acquire::Check-Valid-Until false;" >"$root/etc/apt/apt.conf.d/90snapshot"
		# The network may have an authority of its own.
		[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cat /etc/ssl/certs/ca-certificates.crt >"$root/etc/ssl/certs/ca-certificates.crt"
		mkdir -p "$root/src"
		git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -c | tar -x --no-same-owner -C "$root/src"
		exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin LANG=C.UTF-8 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false \
			DEBIAN_FRONTEND=noninteractive FULL="$full" MIRROR="$mirror" RELEASE="$release" \
			chroot "$root" sh -eu /src/scripts/platforms/cells.sh "$cell"'
	code=$?
	rm -rf "$work"
	return "$code"
}

failed=0
# shellcheck disable=SC2046 # A list of names.
[ $# -gt 0 ] || set -- $(echo "$cells" | cut -d ' ' -f 1)
for name; do
	read -r _ release title <<-EOF
		$(echo "$cells" | grep "^$name ")
	EOF
	debian "$release"
	echo "==> $name"
	result=passed
	inside "$name" "$release" >"$logs/$name" 2>&1 || {
		result="**failed**"
		failed=1
		tail -n 20 "$logs/$name"
	}
	ran=$(sed -n 's/^ran: //p' "$logs/$name" | paste -s -d ';' | sed 's/;/; /g')
	with=$(sed -n 's/^with: //p' "$logs/$name" | tail -n 1)
	echo "| $title | $with | $ran | $result, $(date -u +%F) |" | tee "$results/$name"
done

# The table has the last result of each cell.
printf '\n| system | with | what ran | result |\n|---|---|---|---|\n'
echo "$cells" | while read -r name _ title; do
	[ -z "$name" ] || cat "$results/$name" 2>/dev/null || echo "| $title | | nothing | not run |"
done
exit "$failed"
