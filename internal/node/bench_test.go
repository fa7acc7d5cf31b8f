// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
)

// BenchmarkWall is a whole call through the stages of a running node, without a
// listener: a warm object of 1 KiB, and calls that are refused. A refusal must
// cost less than what it keeps out.
func BenchmarkWall(b *testing.B) {
	n := beginDev(b)
	object := bytes.Repeat([]byte("0123456789abcdef"), 64)
	put, err := n.tenant(b).Put(b.Context(), bytes.NewReader(object), client.PutOptions{})
	if err != nil {
		b.Fatal(err)
	}
	good := n.token(b, datadir.TenantCapName)
	get := macronode.Call{Method: "GET", Path: "/o/" + put.Addr.String(), Token: []byte(good), Peer: macronode.Peer{UDS: true}}
	forged := get
	forged.Token = []byte(forge(b, good))
	denied := get
	denied.Method, denied.Path = "POST", "/v1/admin/drain"
	missing := get
	missing.Token = nil
	for _, c := range []struct {
		name string
		call macronode.Call
		want macronode.Kind
	}{
		{"get-1KiB-warm", get, 0},
		{"refused-forged-token", forged, macronode.TokenForged},
		{"refused-no-token", missing, macronode.Unauthenticated},
		{"refused-by-policy", denied, macronode.Denied},
	} {
		b.Run(c.name, func(b *testing.B) {
			var sent int64
			send := func(r *macronode.Reply) error {
				if r.Stream == nil {
					sent += int64(len(r.Body))
					return nil
				}
				// As a listener does it: through a writer without shortcuts.
				size, err := r.Stream.WriteTo(struct{ io.Writer }{io.Discard})
				sent += size
				return err
			}
			serve := func() error { call := c.call; return n.wall.Serve(b.Context(), &call, send) }
			if err := serve(); (err == nil) != (c.want == 0) || err != nil && macronode.KindOf(err) != c.want {
				b.Fatalf("%v, want kind %v", err, c.want)
			}
			if c.want == 0 && sent != int64(len(object)) {
				b.Fatalf("%d bytes sent, want %d", sent, len(object))
			}
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

// forge changes the signature of a token: it is well-formed and not genuine.
func forge(b *testing.B, text string) string {
	b.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, capability.TextPrefix))
	if err != nil {
		b.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	return capability.TextPrefix + base64.RawURLEncoding.EncodeToString(raw)
}
