// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"slices"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/registry"
)

// What the node's own key signs is on record before anybody has it, or nobody has it.
func TestSignIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.s.c.Halves = func(ref bundle.Ref) ([]bundle.Signer, error) {
		if ref.Name != "a" {
			return nil, errors.New("no such key")
		}
		return w.keys["a"].Halves(), nil
	}
	p := w.proposal(w.put(w.signers(1, "a", "b", "c")))
	w.must(w.propose(p))
	sign := func() (Signatures, error) {
		return ask[Signatures](w, "registry.sign", map[string]string{"id": w.id(p).String()}, SignRequest{Key: "KMS:key/a", Decision: registry.Approve})
	}
	w.audit.fail.Store(true)
	if got, err := sign(); macronode.KindOf(err) != macronode.Unavailable || len(got.Signatures) > 0 || slices.Contains(w.audit.kinds(), "registry.sign") {
		t.Errorf("signed without a record: %v", err)
	}
	w.audit.fail.Store(false)
	if got, err := sign(); err != nil || len(got.Signatures) != 2 || !slices.Contains(w.audit.kinds(), "registry.sign") {
		t.Errorf("%d signatures, %v, records %v", len(got.Signatures), err, w.audit.kinds())
	}
}
