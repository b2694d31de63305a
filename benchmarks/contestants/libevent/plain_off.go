//go:build !plainio

package main

import (
	"errors"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

func plainIO(*libevent.Config) { server.Check(errors.New("built without -tags plainio")) }
