// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What a goroutine did before it wrote happens before what follows reading it, also when the
// ends of the connection are of different packages. The race detector proves it.
func TestBytesOrderGoroutines(t *testing.T) {
	ours := onLoop(running(t))
	for _, ends := range [][2]netLike{{goNet, goNet}, {ours, goNet}, {goNet, ours}, {ours, ours}} {
		for _, network := range []string{"tcp", "unix"} {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = "@evnet-test-order"
			}
			t.Run(fmt.Sprintf("%s to %s by %s", ends[0].name, ends[1].name, network), func(t *testing.T) {
				a, b := connectOver(t, ends[0], ends[1], network, address)
				ball := 0
				var wg sync.WaitGroup
				wg.Go(func() {
					for range 20 {
						ball++
						_, err := a.Write([]byte("x"))
						assert.NoError(t, err)
						_, err = a.Read(make([]byte, 1))
						assert.NoError(t, err)
					}
				})
				wg.Go(func() {
					for range 20 {
						_, err := b.Read(make([]byte, 1))
						assert.NoError(t, err)
						ball++
						_, err = b.Write([]byte("x"))
						assert.NoError(t, err)
					}
				})
				wg.Wait()
				assert.Equal(t, 40, ball)
			})
		}
	}
}
