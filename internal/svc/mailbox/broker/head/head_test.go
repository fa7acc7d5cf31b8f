// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/clock"
)

func FuzzRead(f *testing.F) {
	h := Header{From: 5, Mark: clock.Mark{Time: 7, Wall: 9}, Secret: [32]byte{1}, LastLease: 11, LastNumber: 13}
	f.Add(h.Append(nil))
	f.Add([]byte{snapshotVersion})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Read(bytes.NewReader(b))
		if err == nil && !bytes.Equal(got.Append(nil), b[:headerBytes]) {
			t.Error("a header that was read is written differently")
		}
		if len(b) < headerBytes && !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("a header of %d bytes: %v", len(b), err)
		}
	})
}
