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
	m.Put(1, "one", time.Second)
	m.Put(2, "two", 0)
	m.Put(3, "three", 0)
	has(1, "one")
	m.Put(4, "four", 0) // 2 was used least
	has(2, "")
	now = now.Add(time.Second)
	has(1, "")
	has(3, "three")
	m.Put(3, "3", time.Second)
	has(3, "3")
	m.Forget(3)
	m.Forget(3)
	has(3, "")
	if m.Len() != 1 {
		t.Errorf("%d things", m.Len())
	}
	m.Clear()
	has(4, "")
	if m.Len() != 0 {
		t.Errorf("%d things", m.Len())
	}
}
