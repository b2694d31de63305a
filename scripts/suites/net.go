// SPDX-License-Identifier: BSD-3-Clause

//go:build ignore

package net

import "context"

// Hook has the functions that stand for those of ListenConfig and Dialer, if it has any.
var Hook struct {
	Listen func(ctx context.Context, lc *ListenConfig, network, address string) (Listener, error)
	Dial   func(ctx context.Context, d *Dialer, network, address string) (Conn, error)
}

// Listen is hooked.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (Listener, error) {
	if Hook.Listen != nil {
		return Hook.Listen(ctx, lc, network, address)
	}
	return lc.UnhookedListen(ctx, network, address)
}

// DialContext is hooked.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (Conn, error) {
	if Hook.Dial != nil {
		return Hook.Dial(ctx, d, network, address)
	}
	return d.UnhookedDialContext(ctx, network, address)
}
