// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package refs

import "testing"

func FuzzDecode(f *testing.F) {
	r := Reference{Size: 5, Created: 7, Loc: "m:1", ContentType: "text/plain"}
	f.Add(r.Encode())
	f.Add([]byte{})
	f.Add(append([]byte{1}, make([]byte, 17)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err == nil && string(r.Encode()) != string(b) {
			t.Fatalf("%x decodes to %+v", b, r)
		}
	})
}
