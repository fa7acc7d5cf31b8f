// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package memo

import (
	"testing"
	"time"
)

func TestMemo(t *testing.T) {
	now := time.Unix(0, 0)
	m := New[int, string](3, func() time.Time { return now })
	has := func(k int, want string) {
		t.Helper()
		if v, ok := m.Get(k); v != want || ok != (want != "") {
			t.Errorf("%d is %q, %v, want %q", k, v, ok, want)
		}
	}
	m.Put(1, "one", 1, time.Second)
	m.Put(2, "two", 1, 0)
	m.Put(3, "three", 1, 0)
	has(1, "one")
	m.Put(4, "four", 1, 0) // 2 was used least
	has(2, "")
	now = now.Add(time.Second)
	has(1, "")
	has(3, "three")
	m.Put(3, "3", 1, time.Second)
	has(3, "3")
	m.Forget(3)
	m.Forget(3)
	has(3, "")
	if m.Len() != 1 {
		t.Errorf("%d things", m.Len())
	}
	m.Put(5, "large", 4, 0)
	has(5, "")
	m.Put(5, "fits", 3, 0)
	has(4, "") // made room
	m.Put(5, "now too large", 4, 0)
	has(5, "")
	m.Put(6, "six", 2, 0)
	if m.Cost() != 2 {
		t.Errorf("they cost %d", m.Cost())
	}
	m.Clear()
	has(6, "")
	if m.Len() != 0 || m.Cost() != 0 {
		t.Errorf("%d things that cost %d", m.Len(), m.Cost())
	}
}
