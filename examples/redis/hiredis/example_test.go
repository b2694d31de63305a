// SPDX-License-Identifier: BSD-3-Clause

package hiredis_test

import (
	"fmt"
	"log"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/examples/redis/hiredis"
)

func ExampleClient_Do() {
	base, err := libevent.NewBase()
	if err != nil {
		log.Fatal(err)
	}
	defer base.Free()
	client, err := hiredis.Dial(base, "127.0.0.1:6379", nil, func(err error) { log.Println("ended:", err) })
	if err != nil {
		log.Fatal(err)
	}
	err = client.Do(func(reply any, err error) {
		fmt.Println(reply, err)
		client.Close()
	}, "LRANGE", "list", "0", "-1")
	if err != nil {
		log.Fatal(err)
	}
	log.Println(base.Dispatch())
}

// What the README shows is in the example, and so compiles.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	blocks := strings.Split(string(readme), "```go\n")[1:]
	assert.NotEmpty(t, blocks)
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		for line := range strings.Lines(code) {
			assert.Contains(t, string(example), "\n\t"+line)
		}
	}
}
