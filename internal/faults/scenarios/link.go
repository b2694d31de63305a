// SPDX-License-Identifier: BSD-3-Clause

package main

/*
#include <dlfcn.h>

// The functions of the preloaded object, which may be absent.

static void *function(const char *name) { return dlsym(RTLD_DEFAULT, name); }

static int present(void) { return function("faults_begin") != 0; }

static void begin(void) { ((void (*)(void))function("faults_begin"))(); }

static void end(void) { ((void (*)(void))function("faults_end"))(); }

static void none_left(int none) { ((void (*)(int))function("faults_none_left"))(none); }

static long number(const char *name) { return ((long (*)(void))function(name))(); }

static long allocations(void) { return number("faults_allocations"); }

static long calls_left(void) { return number("faults_calls_left"); }

static long live(void) { return number("faults_live"); }
*/
import "C"

// faults is the preloaded object.
type faults struct{}

func (faults) present() bool { return C.present() != 0 }
func (faults) begin()        { C.begin() }
func (faults) end()          { C.end() }

func (faults) noneLeft(none bool) {
	n := C.int(0)
	if none {
		n = 1
	}
	C.none_left(n)
}

func (faults) allocations() int { return int(C.allocations()) }
func (faults) callsLeft() int   { return int(C.calls_left()) }
func (faults) live() int        { return int(C.live()) }
