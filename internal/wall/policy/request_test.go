// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"testing"

	"github.com/cedar-policy/cedar-go/x/exp/schema"

	"github.com/rustyonions/macronode"
)

func schemaJSON(t *testing.T, text []byte) []byte {
	t.Helper()
	var s schema.Schema
	if err := s.UnmarshalCedar(text); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(&s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestRefuses(t *testing.T) {
	good := Request{Tenant: "dev", Action: "object:get", Resource: "object/x"}
	tenants := map[string]macronode.TenantID{"dev": devTenant}
	if r, err := good.compile(tenants); err != nil || r.Tenant.ID != devTenant || r.Tenant.Label != "dev" || !r.TLS {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, change := range map[string]func(*Request){
		"principal": func(r *Request) { r.Principal = "root" },
		"no tenant": func(r *Request) { r.Tenant = "" },
		"tenant":    func(r *Request) { r.Tenant = "nobody" },
		"root":      func(r *Request) { r.Root = "abc" },
		"root case": func(r *Request) { r.Root = "ABCDEFABCDEFABCDEFABCDEFABCDEFAB" },
		"node":      func(r *Request) { r.Node = "b3:00" },
		"peer":      func(r *Request) { r.Principal = "peer" },
		"action":    func(r *Request) { r.Action = "" },
		"resource":  func(r *Request) { r.Resource = "object" },
		"kind":      func(r *Request) { r.Resource = "thing/x" },
		"ip":        func(r *Request) { r.IP = "10.0.0" },
		"bytes":     func(r *Request) { r.Bytes = -1 },
		"hour":      func(r *Request) { r.Hour = 24 },
	} {
		r := good
		change(&r)
		if _, err := r.compile(tenants); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
