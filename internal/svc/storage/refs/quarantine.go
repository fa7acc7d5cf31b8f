// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package refs

import (
	"encoding/binary"
	"errors"

	"github.com/rustyonions/macronode/internal/store"
)

// Bad says that the bytes at a loc were found damaged. They are kept, not moved
// and not shared, until a put brings good ones or the last owner lets go.
type Bad struct {
	Loc   store.Loc
	Since int64 // unix ms
	Where string
}

func badKey(l store.Loc) []byte { return append([]byte(BadPrefix), l...) }

// Quarantine records damage at l, found by a part of the node named where. It
// reports false where nobody refers to l, or it is recorded already.
func Quarantine(tx store.Tx, l store.Loc, nowMS int64, where string) (bool, error) {
	owners, err := Owners(tx, l)
	if err != nil || len(owners) == 0 {
		return false, err
	}
	switch _, err := tx.Get(badKey(l)); {
	case err == nil:
		return false, nil
	case !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	v := binary.BigEndian.AppendUint64(nil, uint64(nowMS))
	return true, tx.Set(badKey(l), append(v, where...))
}

// Release ends the quarantine of l: its bytes turned out to be good.
func Release(tx store.Tx, l store.Loc) error { return tx.Delete(badKey(l)) }

// Quarantined reports whether l was found damaged.
func Quarantined(r store.Reader, l store.Loc) (bool, error) {
	_, err := r.Get(badKey(l))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// EachBad calls f for each loc in quarantine until it returns false.
func EachBad(r store.Reader, f func(Bad) bool) error {
	lo := []byte(BadPrefix)
	var bad error
	err := r.Scan(lo, After(lo), func(key, v []byte) bool {
		if len(v) < 8 {
			bad = ErrMeta
			return false
		}
		return f(Bad{store.Loc(key[len(lo):]), int64(binary.BigEndian.Uint64(v)), string(v[8:])})
	})
	return errors.Join(err, bad)
}
