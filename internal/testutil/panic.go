// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"errors"
)

// ErrBoom is what Explode panics with.
var ErrBoom = errors.New("boom")

// Explode panics.
func Explode() { panic(ErrBoom) }

// Raises returns what fn panics with, or nil if it returns.
func Raises(fn func()) (v any) {
	defer func() { v = recover() }()
	fn()
	return nil
}

// AsError returns the error that a panic was raised with, or nil if it was no error.
func AsError(v any) error {
	err, _ := v.(error)
	return err
}
