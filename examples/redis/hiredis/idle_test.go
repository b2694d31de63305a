package hiredis_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/examples/redis/internal/redistest"
)

func TestX(t *testing.T) {
	eachWay(t, func(t *testing.T, server *redistest.Server, addr string) {
		base := newBase(t)
		s := dial(t, base, addr)
		require.NoError(t, s.Do(func(value any, err error) {
			assert.NoError(t, err)
			go server.Kill(t)
		}, "PING"))
		dispatch(t, base)
	})
}
