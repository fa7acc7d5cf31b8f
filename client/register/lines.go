// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package register

import (
	"bufio"
	"io"
)

// lines reads a stream line by line, each of a bounded length.
type lines struct{ s *bufio.Scanner }

func newLines(r io.Reader) *lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), maxEventBytes)
	return &lines{s}
}

// next is the next line. A stream that ends is io.ErrUnexpectedEOF: it has no end of
// its own.
func (l *lines) next() ([]byte, error) {
	if l.s.Scan() {
		return l.s.Bytes(), nil
	}
	if err := l.s.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}
