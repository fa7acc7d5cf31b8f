// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package refs

import (
	"encoding/hex"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// PrefixRange returns the keys below base whose addresses begin with prefix,
// which may end amid a byte.
func PrefixRange(base []byte, prefix string) (lo, hi []byte, err error) {
	const scheme = "b3:"
	digits, ok := strings.CutPrefix(prefix, scheme)
	if !ok && !strings.HasPrefix(scheme, prefix) {
		return nil, nil, errPrefix()
	}
	if !ok {
		digits = ""
	}
	if len(digits) > 2*b3.Size || strings.ToLower(digits) != digits {
		return nil, nil, errPrefix()
	}
	odd := len(digits)%2 == 1
	if odd {
		digits += "0"
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return nil, nil, errPrefix()
	}
	lo = append(append([]byte(nil), base...), raw...)
	if !odd {
		return lo, After(lo), nil
	}
	top := append([]byte(nil), lo...)
	top[len(top)-1] |= 0x0f
	return lo, After(top), nil
}

func errPrefix() error {
	return macronode.Errorf(macronode.Malformed, "prefix is the beginning of an address: b3: and lower-case hex digits")
}
