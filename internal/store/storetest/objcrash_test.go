// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// TestShelfFreeze: while an image is taken nobody can begin a removal or be told
// of an object, else a store that loses nothing is blamed for what was removed.
func TestShelfFreeze(t *testing.T) {
	s := newShelf()
	s.stored["a"] = b3.Addr{1}
	k := s.freeze(func() {
		if s.mu.TryLock() {
			s.mu.Unlock()
			t.Error("what is told can change while the image is taken")
		}
	})
	delete(s.stored, "a") // a removal begins
	s.removed["a"] = true
	if k.stored["a"] != (b3.Addr{1}) || k.removed["a"] {
		t.Error("what was told then changes later")
	}
}
