//go:build !race

package evnet_test

const raceEnabled = false
