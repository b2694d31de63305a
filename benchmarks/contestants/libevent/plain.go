//go:build plainio

package main

import "github.com/go-libevent/libevent"

func plainIO(cfg *libevent.Config) { cfg.PlainIO = true }
