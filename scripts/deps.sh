# SPDX-License-Identifier: BSD-3-Clause
# The scripts of this folder source this file from the repository's root. It checks that a
# build can succeed, and installs what is missing. If nothing is missing it calls no package
# manager and needs no network.
# shellcheck shell=sh

libevent=2.1.12

fail() {
	printf '%s\n' "$@" >&2
	exit 1
}

step() { printf '==> %s\n' "$*"; }

# compiles succeeds if the C program on stdin compiles and links with the given flags.
compiles() (
	out=$(mktemp)
	trap 'rm -f "$out"' EXIT
	# shellcheck disable=SC2046 # CC may be a command with options.
	$(go env CC) -x c - -o "$out" "$@" >/dev/null 2>&1
)

# lacking prints the first thing that a build of the package lacks.
# shellcheck disable=SC2046 # Flags are words.
lacking() {
	pkg_config=$(go env PKG_CONFIG)
	if ! echo 'int main(void) { return 0; }' | compiles; then
		echo "a C compiler"
	elif ! command -v "$pkg_config" >/dev/null; then
		echo "pkg-config"
	elif ! "$pkg_config" --exists libevent_core; then
		echo "libevent with its headers, $libevent or newer"
	elif ! "$pkg_config" --atleast-version="$libevent" libevent_core; then
		echo "libevent $libevent or newer (this is $("$pkg_config" --modversion libevent_core))"
	elif ! printf '#include <event2/event.h>\nint main(void) { return !event_get_version(); }\n' |
		compiles $("$pkg_config" --cflags --libs libevent_core); then
		echo "libevent with its headers, $libevent or newer (what pkg-config finds does not compile)"
	elif ! "$pkg_config" --exists openssl; then
		echo "OpenSSL with its headers"
	elif ! printf '#include <event2/bufferevent_ssl.h>\nint main(void) { return bufferevent_ssl_renegotiate(0); }\n' |
		compiles $("$pkg_config" --cflags --libs libevent_core openssl) -levent_openssl; then
		echo "libevent's part for OpenSSL"
	fi
}

# installer prints the command that installs packages on this system. $1 says what is missing.
# The packages are $2 for Homebrew, $3 for apt, $4 for apk and $5 for dnf.
installer() {
	if [ "$(uname)" = Darwin ]; then
		xcode-select -p >/dev/null 2>&1 ||
			fail "A C compiler is missing. Type: xcode-select --install"
		command -v brew >/dev/null ||
			fail "Missing: $1. Install Homebrew, then type: brew install $2"
		echo "brew install $2"
	elif command -v apt-get >/dev/null; then
		echo "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $3"
	elif command -v apk >/dev/null; then
		echo "apk add $4"
	elif command -v dnf >/dev/null; then
		echo "dnf install -y $5"
	else
		fail "Missing: $1. This script does not know how to install it on this system." \
			"Debian has it in these packages: $3"
	fi
}

# install_missing installs packages if the function $1 prints that something is missing. The
# other arguments are the packages, in the order that installer takes them.
install_missing() {
	lacking=$1
	shift
	missing=$("$lacking")
	[ -n "$missing" ] || return 0
	install=$(installer "$missing" "$@")
	# Homebrew refuses to run as root.
	if [ "$(id -u)" = 0 ] || [ "$(uname)" = Darwin ]; then
		as_root=
	elif command -v sudo >/dev/null; then
		as_root=sudo
	else
		fail "Missing: $missing. Type this as root:" "$install"
	fi
	step "missing: $missing; installing: $install"
	$as_root sh -c "$install" || fail "The installation failed. Type this as root:" "$install"
	missing=$("$lacking")
	[ -z "$missing" ] || fail "Still missing after the installation: $missing"
}

# Inside the module go runs the toolchain that go.mod asks for. If go cannot get that toolchain, or is
# too old to know of toolchains, go list fails.
check_go() {
	# Go's own installer puts Go there, and PATH often does not have that folder.
	command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
	want=$(sed -n 's/^go //p' go.mod)
	command -v go >/dev/null ||
		fail "Go $want or newer is needed, and none is on PATH: see https://go.dev/dl/"
	said=$(go list -m 2>&1) ||
		fail "Go $want or newer is needed: see https://go.dev/dl/ (go says: $(echo "$said" | tail -n 1))"
}

check_go
install_missing lacking "libevent openssl@3 pkg-config" "gcc libc6-dev libevent-dev libssl-dev pkg-config" \
	"gcc musl-dev libevent-dev openssl-dev pkgconf" "gcc libevent-devel openssl-devel pkgconf-pkg-config"
