// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode/oap"
)

// TestTomorrowsHello: what a later client says in its HELLO beyond what is known is
// ignored, and it is told what this node speaks; a HELLO that is none, or comes in
// frames of another version or with flags that are not known, ends the connection.
func TestTomorrowsHello(t *testing.T) {
	w := newWild(t, nil)
	for _, payload := range []string{
		`{}`, `{"ua":""}`, ` {"ua":"x"}`,
		`{"ua":"x","versions":[2,1],"flags":["SIGNED"],"flags_supported":["COMP","SIGNED"],"transports":["quic"],"nested":{"deep":[[[{}]]]},"max_frame":4294967295}`,
		`{"ua":"x","ua":"y"}`, `{"ua":"` + strings.Repeat("u", 4000) + `"}`,
	} {
		k := w.dial("tcp")
		k.send(oap.Frame{Header: oap.Header{Flags: oap.REQ, Corr: 7}, Payload: []byte(payload)})
		f := k.next()
		r, err := oap.ParseHelloReply(f.Payload)
		if f.Code != 200 || f.Corr != 7 || err != nil || len(r.Versions) != 1 || r.Versions[0] != 1 || r.MaxFrame != 1<<20 {
			t.Fatalf("%.80s: %d %s", payload, f.Code, f.Payload)
		}
		k.served(1, "still the same")
		k.c.Close()
	}
	for _, c := range []struct {
		name   string
		f      oap.Frame
		edit   func(b []byte)
		reason string
	}{
		{"no object", oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte(`"ua"`)}, nil, "payload"},
		{"no JSON", oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte(`{"ua":`)}, nil, "payload"},
		{"a ua that is no text", oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte(`{"ua":{}}`)}, nil, "payload"},
		{"over 4 KiB", oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte(`{"ua":"` + strings.Repeat("u", 4096) + `"}`)}, nil, ""},
		{"version 2", oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte(`{}`)}, func(b []byte) { b[5] = 2 }, "version"},
		{"flag 256", oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte(`{}`)}, func(b []byte) { b[6] = 1 }, "flags"},
	} {
		before := w.s.rejected(t, c.reason)
		k := w.dial("tcp")
		b := frameBytes(t, c.f)
		if c.edit != nil {
			c.edit(b)
		}
		k.raw(b)
		if f := k.ended(); f == nil || f.Code != 400 {
			t.Errorf("%s: %+v, want one error frame 400", c.name, f)
		}
		if c.reason != "" && w.s.rejected(t, c.reason) != before+1 {
			t.Errorf("%s: not counted as %s", c.name, c.reason)
		}
		w.undisturbed()
	}
	w.settles(1)
}
