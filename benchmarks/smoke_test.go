// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"context"
	"os/exec"
	"testing"
	"time"
)

// TestSmoke runs everything once for a short time. It checks that every contestant echoes
// every byte and that the page is written.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute or two")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "run", ".", "-smoke").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
