// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall_test

import (
	"context"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/route"
	"github.com/rustyonions/macronode/internal/wall"
)

// asked remembers what auth and policy were asked about.
type asked struct {
	*parts
	auth, policy macronode.Resource
}

func (a *asked) Authenticate(ctx context.Context, c *macronode.Call, b *macronode.Binding, r macronode.Resource) (*macronode.Principal, *macronode.Tenant, error) {
	a.auth = r
	return a.parts.Authenticate(ctx, c, b, r)
}

func (a *asked) Decide(ctx context.Context, r *wall.PolicyRequest) (wall.Decision, error) {
	a.policy = r.Resource
	return a.parts.Decide(ctx, r)
}

// TestNameSpelling: whatever spelling of a name a call has, caveats, policy, audit
// and the handler see the name; what is none they see as it came.
func TestNameSpelling(t *testing.T) {
	for in, want := range map[string]string{
		"secret": "name/secret", "SECRET": "name/secret", "ＳＥＣＲＥＴ": "name/secret", "se\u00adcret": "name/secret", "xn--bcher-kva": "name/bücher", "Bu\u0308cher": "name/bücher",
		"a b": "name/a b", "pаypal": "name/pаypal",
	} {
		p := &asked{parts: newParts()}
		seen := ""
		p.ran = func(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
			seen = a.Resource.String()
			return &macronode.Reply{Body: []byte("done")}, nil
		}
		tab, err := route.New([]macronode.Route{{Handler: p.ran, Binding: macronode.Binding{
			Op: "name.get", Service: "svc", Method: "GET", Pattern: "/v1/names/{name}", OAP: macronode.AppName, Action: "name:get", Resource: macronode.NameResource, ResourceArg: "name", Class: macronode.CoreRead}}})
		if err != nil {
			t.Fatal(err)
		}
		w, err := wall.New(tab, wall.Limits{MaxBodyBytes: 100, MaxObjectBytes: 1000, MaxFrameBytes: 50, RequestTimeout: time.Minute},
			wall.Stages{Gate: p, Auth: p, Policy: p, Quota: p, Admission: p, Audit: p, Services: p, Metrics: metrics.New(false)})
		if err != nil {
			t.Fatal(err)
		}
		c := &macronode.Call{Wire: macronode.WireOAP, Op: "name.get", AppID: macronode.AppName, Args: []macronode.Arg{{Name: "name", Value: in}}, Peer: macronode.Peer{TLS: true}, CorrID: "c"}
		if err := serve(w, p.parts, c); err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		if p.auth.String() != want || p.policy.String() != want || seen != want {
			t.Errorf("%q: auth sees %q, policy %q, the handler %q, want %q", in, p.auth, p.policy, seen, want)
		}
	}
}
