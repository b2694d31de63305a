// SPDX-License-Identifier: BSD-3-Clause

// Command health asks an echo server whether it works: it sends a line, and succeeds if the same
// line comes back. It is the health check of the image that the Dockerfile makes.
//
//	health 127.0.0.1:9595
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"time"
)

// limit is less than the time that the Dockerfile gives to the check.
const limit = 4 * time.Second

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: health HOST:PORT")
		os.Exit(2)
	}
	if err := check(os.Args[1], limit); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func check(addr string, limit time.Duration) error {
	const line = "how are you?\n"
	deadline := time.Now().Add(limit)
	conn, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(line)); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if answer != line {
		return fmt.Errorf("%s echoes %q as %q", addr, line, answer)
	}
	return nil
}
