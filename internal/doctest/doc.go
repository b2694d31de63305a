// SPDX-License-Identifier: BSD-3-Clause

// Package doctest has the test that compiles every block of code in the documents, and runs the
// programs whose output a document shows.
package doctest
