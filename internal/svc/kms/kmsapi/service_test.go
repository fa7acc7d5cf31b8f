// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/kmsapi"
)

// caller calls handlers as the wall does.
type caller struct {
	t      testing.TB
	routes map[macronode.Op]macronode.Route
	tenant macronode.TenantID
}

func newCaller(t testing.TB, s *kmsapi.Service) *caller {
	c := &caller{t: t, routes: map[macronode.Op]macronode.Route{}, tenant: macronode.SystemTenant}
	for _, r := range s.Routes() {
		c.routes[r.Op] = r
	}
	return c
}

type args map[string]string

// call runs op; body is JSON, or raw bytes.
func (c *caller) call(op macronode.Op, in args, key string, body any) (*macronode.Reply, error) {
	c.t.Helper()
	r, ok := c.routes[op]
	if !ok {
		c.t.Fatalf("no route %s", op)
	}
	var raw []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		raw = b
	case string:
		raw = []byte(b)
	default:
		var err error
		if raw, err = json.Marshal(b); err != nil {
			c.t.Fatal(err)
		}
	}
	call := &macronode.Call{Method: r.Method, IdempotencyKey: key, Body: bytes.NewReader(raw), Length: int64(len(raw)), Binding: &r.Binding}
	q := url.Values{}
	for k, v := range in {
		if strings.Contains(r.Pattern, "{"+k+"}") {
			call.AddParam(k, v)
		} else {
			q.Set(k, v)
		}
	}
	call.Query = q.Encode()
	return r.Handler(context.Background(), &macronode.Admitted{
		Call: call, Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: c.tenant}, Tenant: &macronode.Tenant{ID: c.tenant},
	})
}

// get is call that must work; the answer is decoded into out.
func (c *caller) get(op macronode.Op, in args, key string, body, out any) *macronode.Reply {
	c.t.Helper()
	rep, err := c.call(op, in, key, body)
	if err != nil {
		c.t.Fatalf("%s: %v", op, err)
	}
	if out != nil {
		if err := json.Unmarshal(rep.Body, out); err != nil {
			c.t.Fatal(err)
		}
	}
	return rep
}

func TestServiceRoutes(t *testing.T) {
	s := kmsapi.New(newStore(t), newKeeper(t, nil), nil)
	seen := map[string]bool{}
	for _, r := range s.Routes() {
		if r.Service != kmsapi.Name || r.Action == "" || r.OAP != 8 || r.Resource != macronode.KeyResource || r.Handler == nil || r.Public || r.PlainOK {
			t.Errorf("%s: %+v", r.Op, r.Binding)
		}
		if id := r.Label(); seen[id] {
			t.Errorf("%s twice", id)
		} else {
			seen[id] = true
		}
		if r.ResourceArg != "" && !strings.Contains(r.Pattern, "{"+r.ResourceArg+"}") {
			t.Errorf("%s: no argument %s", r.Op, r.ResourceArg)
		}
	}
}

// Key names are the node's: no other tenant's capability gets past the door.
func TestServiceIsTheOperators(t *testing.T) {
	store := newStore(t)
	create(t, store, "k", kms.Ed25519, kms.PurposeApp)
	c := newCaller(t, kmsapi.New(store, newKeeper(t, nil), nil))
	for _, tenant := range []macronode.TenantID{{1, 2, 3}, macronode.AnonymousTenant, {}} {
		c.tenant = tenant
		for op := range c.routes {
			_, err := c.call(op, args{"key": "k", "object": "o"}, "", "{}")
			wantKind(t, err, macronode.Denied)
		}
	}
}

// No caller has anything done with a key that works for the node.
func TestServiceRefusesInternalKeys(t *testing.T) {
	store := newStore(t)
	internal := map[string]kms.Spec{
		"ops-release": {Alg: kms.Ed25519MLDSA65, Purpose: kms.PurposeBundle}, "audit": {Alg: kms.Ed25519MLDSA44, Purpose: kms.PurposeAudit},
		"mint-x": {Alg: kms.MAC256, Purpose: kms.PurposeMint}, "node": {Alg: kms.P256, Purpose: kms.PurposeNode},
		"tls": {Alg: kms.P256, Purpose: kms.PurposeTLS},
	}
	c := newCaller(t, kmsapi.New(store, newKeeper(t, nil), nil))
	sig := (&kms.Signature{Version: 1, Halves: []kms.HalfSignature{{Component: 1, Sig: make([]byte, 64)}}}).Bytes()
	for name, spec := range internal {
		create(t, store, name, spec.Alg, spec.Purpose)
		in := args{"key": name}
		for op, body := range map[macronode.Op]any{
			"kms.sign": map[string]any{"message": []byte("x")}, "kms.verify": map[string]any{"message": []byte("x"), "signature": sig},
			"kms.wrap": map[string]any{"plaintext": []byte("x")}, "kms.unwrap": map[string]any{"wrapped": make([]byte, 64)},
		} {
			_, err := c.call(op, in, "", body)
			wantKind(t, err, macronode.Denied)
		}
		_, err := c.call("kms.create", nil, "", map[string]any{"name": "new", "alg": spec.Alg, "purpose": spec.Purpose})
		if spec.Purpose != kms.PurposeTLS {
			wantKind(t, err, macronode.Denied)
		}
	}
	_, err := c.call("kms.rotate", args{"key": "node"}, "", nil)
	wantKind(t, err, macronode.Denied)
	c.get("kms.rotate", args{"key": "mint-x"}, "", nil, nil)
	_, err = c.call("kms.public", args{"key": "mint-x"}, "", nil)
	wantKind(t, err, macronode.NotFound)
}

func TestServiceSignVerifyWrapUnwrap(t *testing.T) {
	c := newCaller(t, kmsapi.New(newStore(t), newKeeper(t, nil), nil))
	rep := c.get("kms.create", nil, "", map[string]any{"name": "k", "alg": "ed25519+ml-dsa-65", "purpose": "app"}, nil)
	again := c.get("kms.create", nil, "", map[string]any{"name": "k", "alg": "ed25519+ml-dsa-65", "purpose": "app"}, nil)
	if rep.Status != 201 || again.Status != 200 || !bytes.Equal(rep.Body, again.Body) {
		t.Fatalf("%d %d", rep.Status, again.Status)
	}
	_, err := c.call("kms.create", nil, "", map[string]any{"name": "k", "alg": "ed25519", "purpose": "app"})
	wantKind(t, err, macronode.Conflict)
	var signed struct {
		Key, Alg   string
		Signature  []byte
		Signatures []struct {
			KeyID string
			Sig   []byte
		}
	}
	c.get("kms.sign", args{"key": "k"}, "", map[string]any{"message": []byte("m")}, &signed)
	if signed.Key != "k#v1" || signed.Alg != "ed25519+ml-dsa-65" || len(signed.Signatures) != 2 || signed.Signatures[1].KeyID != "k#v1/ml-dsa-65" {
		t.Fatalf("%+v", signed)
	}
	c.get("kms.rotate", args{"key": "k"}, "", nil, nil)
	var verified struct{ Valid bool }
	for message, want := range map[string]bool{"m": true, "n": false} {
		c.get("kms.verify", args{"key": "k"}, "", map[string]any{"message": []byte(message), "signature": signed.Signature}, &verified)
		if verified.Valid != want {
			t.Errorf("%q: %v", message, verified.Valid)
		}
	}
	_, err = c.call("kms.verify", args{"key": "k"}, "", map[string]any{"message": []byte("m"), "signature": []byte("junk")})
	wantKind(t, err, macronode.Malformed)
	c.get("kms.create", nil, "", map[string]any{"name": "w", "alg": "aes-256-gcm", "purpose": "app"}, nil)
	var wrapped struct{ Wrapped []byte }
	c.get("kms.wrap", args{"key": "w"}, "", map[string]any{"plaintext": []byte("secret"), "aad": []byte("a")}, &wrapped)
	var plain struct{ Plaintext []byte }
	c.get("kms.unwrap", args{"key": "w"}, "", map[string]any{"wrapped": wrapped.Wrapped, "aad": []byte("a")}, &plain)
	if string(plain.Plaintext) != "secret" {
		t.Fatalf("%q", plain.Plaintext)
	}
	for _, body := range []string{"", "{", "[]", `{"message":"bQ==","x":1}`, `{"message":"bQ=="}{}`, `{"message":"not base64!"}`, `{"message":1}`} {
		_, err := c.call("kms.sign", args{"key": "k"}, "", body)
		wantKind(t, err, macronode.Malformed)
		if strings.Contains(err.Error(), "base64!") {
			t.Errorf("the error tells the value: %v", err)
		}
	}
	for name, kind := range map[string]macronode.Kind{"none": macronode.NotFound, "Bad Name": macronode.Malformed} {
		_, err := c.call("kms.sign", args{"key": name}, "", map[string]any{"message": []byte("m")})
		wantKind(t, err, kind)
	}
}

func TestServiceObjectsAndPages(t *testing.T) {
	store := newStore(t)
	c := newCaller(t, kmsapi.New(store, newKeeper(t, nil), nil))
	for v := 1; v <= 12; v++ {
		var info kms.ObjectInfo
		rep := c.get("kms.object.put", args{"object": "o", "version": fmt.Sprint(v)}, "", fmt.Sprint("bytes ", v), &info)
		if rep.Status != 201 || info.Version != uint64(v) {
			t.Fatalf("%d: %+v", rep.Status, info)
		}
	}
	for version, kind := range map[string]macronode.Kind{"14": macronode.Conflict, "3": macronode.Conflict, "0": macronode.Malformed, "x": macronode.Malformed, "-1": macronode.Malformed} {
		_, err := c.call("kms.object.put", args{"object": "o", "version": version}, "", "other")
		wantKind(t, err, kind)
	}
	_, err := c.call("kms.object.put", args{"object": "o"}, "", make([]byte, kms.MaxObjectBytes+1))
	wantKind(t, err, macronode.TooLarge)
	var got []uint64
	in := args{"limit": "5"}
	for {
		var list struct {
			Objects []kms.ObjectInfo
			Cursor  string
		}
		c.get("kms.object.list", in, "", nil, &list)
		for _, o := range list.Objects {
			got = append(got, o.Version)
		}
		if list.Cursor == "" {
			break
		}
		in["cursor"] = list.Cursor
	}
	if fmt.Sprint(got) != "[1 2 3 4 5 6 7 8 9 10 11 12]" {
		t.Fatal(got)
	}
	for i := range 7 {
		create(t, store, fmt.Sprint("k", i), kms.MAC256, kms.PurposeApp)
	}
	var keys struct {
		Keys   []kms.KeyInfo
		Cursor string
	}
	c.get("kms.list", args{"limit": "5"}, "", nil, &keys)
	c.get("kms.list", args{"limit": "5", "cursor": keys.Cursor}, "", nil, &keys)
	if len(keys.Keys) != 2 || keys.Keys[0].Name != "k5" || keys.Cursor != "" {
		t.Fatalf("%+v", keys)
	}
	for _, bad := range []args{{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"cursor": "%%"}} {
		_, err := c.call("kms.list", bad, "", nil)
		wantKind(t, err, macronode.Malformed)
	}
}

// No answer, whatever the route, holds a secret.
func TestServiceAnswersHoldNoSecret(t *testing.T) {
	store, vault := openOn(t, memDisk(t), kms.Options{})
	c := newCaller(t, kmsapi.New(store, newKeeper(t, nil), nil))
	var out bytes.Buffer
	for _, alg := range kms.Algorithms() {
		name := "k." + strings.ReplaceAll(string(alg), "+", "-")
		out.Write(c.get("kms.create", nil, "", map[string]any{"name": name, "alg": alg, "purpose": "app"}, nil).Body)
		if rep, err := c.call("kms.public", args{"key": name}, "", nil); err == nil {
			out.Write(rep.Body)
		}
		if rep, err := c.call("kms.sign", args{"key": name}, "", map[string]any{"message": []byte("m")}); err == nil {
			out.Write(rep.Body)
		}
	}
	out.Write(c.get("kms.list", nil, "", nil, nil).Body)
	for _, alg := range kms.Algorithms() {
		secret := secretOf(t, vault, "k."+strings.ReplaceAll(string(alg), "+", "-"))
		for i := 0; i+16 <= len(secret); i += 16 {
			part := secret[i : i+16]
			if bytes.Contains(out.Bytes(), part) || strings.Contains(out.String(), base64.StdEncoding.EncodeToString(part)[:20]) {
				t.Errorf("%s: an answer holds the secret", alg)
			}
		}
	}
}

func TestServiceLife(t *testing.T) {
	store := newStore(t)
	s := kmsapi.New(store, newKeeper(t, nil), nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_ = store.Close()
	wantKind(t, s.Ready(context.Background()), macronode.Unavailable)
	_, err := store.List(context.Background())
	wantKind(t, err, macronode.Unavailable)
	wantKind(t, store.WithSecret("k", 0, kms.PurposeMint, nil), macronode.Unavailable)
}
