// SPDX-License-Identifier: BSD-3-Clause

package hiredis

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// refused has the commands that are not answered by exactly one reply, in order. After such a
// command hiredis would pass replies to the wrong closures, or abort the process.
var refused = []string{
	"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe",
	"monitor", "sync", "psync", "hello", "client reply",
}

// check refuses commands that Do cannot send.
func check(args []string) error {
	if len(args) == 0 {
		return errors.New("hiredis: no command")
	}
	name := strings.ToLower(args[0])
	if name == "client" && len(args) > 1 {
		name += " " + strings.ToLower(args[1])
	}
	if slices.Contains(refused, name) {
		return fmt.Errorf("hiredis: %s is not answered by one reply, so not for Do", strings.ToUpper(name))
	}
	return nil
}

// appendCommand appends a command in the form of the protocol, as one block of bytes. So Go
// passes C one pointer to memory that has no other pointers.
func appendCommand(p []byte, args []string) []byte {
	p = appendCount(p, '*', len(args))
	for _, arg := range args {
		p = appendCount(p, '$', len(arg))
		p = append(p, arg...)
		p = append(p, "\r\n"...)
	}
	return p
}

func appendCount(p []byte, kind byte, n int) []byte {
	p = append(p, kind)
	p = strconv.AppendInt(p, int64(n), 10)
	return append(p, "\r\n"...)
}
