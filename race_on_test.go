//go:build race

package libevent_test

const raceEnabled = true
