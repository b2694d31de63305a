// SPDX-License-Identifier: BSD-3-Clause

//go:build ignore

package testing

import _ "github.com/go-libevent/libevent/hook" // every program of tests has it
