// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package store

// After is the first key beyond every key that begins with p; nil where there is none.
func After(p []byte) []byte {
	hi := append([]byte(nil), p...)
	for i := len(hi) - 1; i >= 0; i-- {
		hi[i]++
		if hi[i] != 0 {
			return hi[:i+1]
		}
	}
	return nil
}

// DeleteRange deletes the first most keys in [lo, hi) and returns how many there were.
func DeleteRange(tx Tx, lo, hi []byte, most int) (int, error) {
	var keys [][]byte
	err := tx.Scan(lo, hi, func(key, _ []byte) bool {
		keys = append(keys, append([]byte(nil), key...))
		return len(keys) < most
	})
	for i := 0; err == nil && i < len(keys); i++ {
		err = tx.Delete(keys[i])
	}
	return len(keys), err
}
