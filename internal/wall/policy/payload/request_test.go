// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package payload

import (
	"testing"

	"github.com/rustyonions/macronode"
)

var devTenant = macronode.TenantID{1}

func TestRequestRefuses(t *testing.T) {
	good := Request{Tenant: "dev", Action: "object:get", Resource: "object/x"}
	tenants := map[string]macronode.TenantID{"dev": devTenant}
	if r, err := good.Compile(tenants); err != nil || r.Tenant.ID != devTenant || r.Tenant.Label != "dev" || !r.TLS {
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
		if _, err := r.Compile(tenants); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
