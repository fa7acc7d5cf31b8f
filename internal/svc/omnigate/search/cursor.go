// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// A cursor is version(1), mark(8), and the place of the last hit: len(2) bytes of its
// sort value, its address(32). The mark binds it to tenant, query and order.
const (
	cursorVersion  = 1
	maxCursorBytes = 2048 // of base64
)

func errCursor() error {
	return macronode.Errorf(macronode.Malformed, "the cursor is not one that this query gave")
}

// markOf binds a cursor to what was asked.
func markOf(t macronode.TenantID, asked ...string) (m [8]byte) {
	b := append([]byte("search cursor v1\x00"), t[:]...)
	for _, s := range asked {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	sum := b3.Sum(b)
	copy(m[:], sum[:])
	return m
}

func writeCursor(mark [8]byte, place []string) string {
	if len(place) != 2 || len(place[0]) > 1024 {
		return ""
	}
	addr, err := b3.Parse(place[1])
	if err != nil {
		return ""
	}
	b := append([]byte{cursorVersion}, mark[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(place[0])))
	b = append(b, place[0]...)
	return base64.RawURLEncoding.EncodeToString(append(b, addr[:]...))
}

func readCursor(s string, mark [8]byte, order shelf.Order) ([]string, error) {
	if len(s) > maxCursorBytes {
		return nil, errCursor()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 11 || b[0] != cursorVersion || [8]byte(b[1:9]) != mark {
		return nil, errCursor()
	}
	n := int(binary.BigEndian.Uint16(b[9:]))
	if b = b[11:]; len(b) != n+b3.Size {
		return nil, errCursor()
	}
	value := string(b[:n])
	switch order {
	case shelf.ByName, shelf.ByNameDesc:
		if !utf8.ValidString(value) {
			return nil, errCursor()
		}
	default:
		if v, err := strconv.ParseFloat(value, 64); err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errCursor()
		}
	}
	return []string{value, fmt.Sprint(b3.Addr(b[n:]))}, nil
}
