# SPDX-License-Identifier: BSD-3-Clause
# The scripts that build libevent from sources source this file.
# shellcheck shell=sh

# pc_dir prints the folder with the .pc files of a prefix.
pc_dir() {
	find "$1" -name libevent_core.pc -exec dirname {} \; 2>/dev/null | head -n 1
}

# from_sources builds the sources in $1 and installs them in $2. With further C flags in $3, for
# a sanitizer say, the libraries are static. $4 is a further option of configure.
from_sources() {
	flags=${3-}
	cp -Rp "$1" "$2.build" # -p keeps the times of the files, which make compares
	if [ -x "$2.build/configure" ]; then
		(cd "$2.build" && ./configure --prefix="$2" --disable-samples --disable-libevent-regress \
			${flags:+--disable-shared} ${4:+"$4"} CFLAGS="-O2 -g $flags" &&
			# The patches of a distribution make configure look out of date. Do not generate it.
			make -j2 install AUTOCONF=: AUTOHEADER=: AUTOMAKE=: ACLOCAL=:) >"$2.log" 2>&1
	elif [ -f "$2.build/CMakeLists.txt" ] && command -v cmake >/dev/null; then
		# The .pc files of 2.2.1-alpha name libraries with the postfix for debugging, even if
		# the libraries do not have it.
		cmake -S "$2.build" -B "$2.build/b" -DCMAKE_INSTALL_PREFIX="$2" -DCMAKE_INSTALL_LIBDIR=lib \
			-DCMAKE_BUILD_TYPE=RelWithDebInfo -DEVENT__DISABLE_TESTS=ON -DEVENT__DISABLE_SAMPLES=ON \
			-DEVENT__DISABLE_BENCHMARK=ON -DEVENT__DISABLE_MBEDTLS=ON \
			${flags:+-DEVENT__LIBRARY_TYPE=STATIC "-DCMAKE_C_FLAGS=$flags"} \
			-DCMAKE_DEBUG_POSTFIX= >"$2.log" 2>&1 &&
			cmake --build "$2.build/b" -j2 --target install >>"$2.log" 2>&1
	else
		echo "neither ./configure nor, with cmake, CMakeLists.txt is there" >"$2.log"
		return 1
	fi || return 1
	rm -rf "$2.build"
}
