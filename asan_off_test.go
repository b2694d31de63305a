//go:build !asan

package libevent_test

const asanEnabled = false
