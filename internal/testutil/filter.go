// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"errors"

	"github.com/go-libevent/libevent"
)

// Double is a filter function that writes every byte twice.
func Double(src, dst *libevent.Buffer, limit int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	n := src.Len()
	if limit >= 0 {
		n = min(n, limit/2)
	}
	if n == 0 {
		return libevent.FilterNeedMore, nil
	}
	p := make([]byte, n)
	if _, err := src.Remove(p); err != nil {
		return libevent.FilterError, err
	}
	q := make([]byte, 0, 2*n)
	for _, c := range p {
		q = append(q, c, c)
	}
	if err := dst.Add(q); err != nil {
		return libevent.FilterError, err
	}
	return libevent.FilterOK, nil
}

// Halve is a filter function that undoes Double. Bytes that are not doubled are an error.
func Halve(src, dst *libevent.Buffer, limit int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	n := src.Len() / 2
	if limit >= 0 {
		n = min(n, limit)
	}
	if n == 0 {
		return libevent.FilterNeedMore, nil
	}
	p := make([]byte, 2*n)
	if _, err := src.Remove(p); err != nil {
		return libevent.FilterError, err
	}
	for i := range n {
		if p[2*i] != p[2*i+1] {
			return libevent.FilterError, errors.New("not doubled")
		}
		p[i] = p[2*i]
	}
	if err := dst.Add(p[:n]); err != nil {
		return libevent.FilterError, err
	}
	return libevent.FilterOK, nil
}
