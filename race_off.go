// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo && !race

package libevent

func raceRelease()           {}
func raceAcquire()           {}
func raceReads(*byte, int)   {}
func raceWrites([]byte, int) {}
