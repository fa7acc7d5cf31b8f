// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outside

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rustyonions/macronode/tlog"
)

func vkey(name string, typ tlog.KeyType) string {
	return tlog.Key{Name: name, Type: typ, Public: bytes.Repeat([]byte{1}, 32)}.String()
}

func TestParseWitness(t *testing.T) {
	k := vkey("w.example", tlog.Ed25519Cos)
	for text, ok := range map[string]bool{
		"https://w.example/ " + k: true, "https://w.example/a/b " + k + " " + vkey("w.example/2", tlog.Ed25519Cos): true, "http://127.0.0.1:9 " + k: true,
		"http://[::1]:9 " + k: true, "http://localhost " + k: true,
		"": false, "https://w.example/": false, k: false, "http://w.example/ " + k: false, "ftp://w.example " + k: false, "https://me:secret@w.example " + k: false,
		"https://w.example/?a=b " + k: false, "https://w.example " + vkey("log.example", tlog.Ed25519): false, "https://w.example " + k[:len(k)-4]: false,
		"https://w.example " + k + " " + k + " " + k + " " + k + " " + k: false,
	} {
		if w, got := ParseWitness(text); got != ok || ok && len(w.Keys) == 0 {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestCheckWitnesses(t *testing.T) {
	a, b := "https://a "+vkey("a", tlog.Ed25519Cos), "https://b "+vkey("b", tlog.Ed25519Cos)
	many := make([]string, MaxWitnesses+1)
	for i := range many {
		many[i] = "https://a " + vkey(fmt.Sprint(i), tlog.Ed25519Cos)
	}
	for _, c := range []struct {
		list   []string
		quorum int64
		bad    string
	}{
		{nil, 0, ""}, {[]string{a, b}, 0, ""}, {[]string{a, b}, 2, ""}, {many[1:], 16, ""},
		{nil, 1, "audit.witness_quorum"}, {[]string{a, b}, 3, "audit.witness_quorum"}, {[]string{a, b, a}, 1, "audit.witnesses[2]"}, {many, 1, "audit.witnesses"},
	} {
		got := ""
		CheckWitnesses(c.list, c.quorum, func(key, _ string, _ ...any) { got += key })
		if got != c.bad {
			t.Errorf("%d of %d: %q, not %q", c.quorum, len(c.list), got, c.bad)
		}
	}
}
