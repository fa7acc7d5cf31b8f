// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/svc/access"
)

// bearer is a client with the given token.
func (n *Node) bearer(tb testing.TB, token string) *client.Client {
	tb.Helper()
	c, err := client.Dial(n.endpoints().HTTP, client.Options{Token: token, InsecureTLS: true, Retries: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// narrowed is a token with one caveat more.
func narrowed(tb testing.TB, token string, cs ...capability.Caveat) string {
	tb.Helper()
	t, err := capability.Parse(token)
	if err == nil {
		t, err = t.Attenuate(cs...)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return t.Text()
}

// kmsCall is one call of the KMS, and the action that it needs.
type kmsCall struct {
	action, method, path string
	body                 any
}

// kmsCalls has every route of the KMS, ready to work once: keys s (signs), w
// (wraps), t (TLS) and each with two versions.
func kmsCalls(tb testing.TB, c *client.Client) []kmsCall {
	tb.Helper()
	ctx := tb.Context()
	var sig struct{ Signature []byte }
	var wrapped struct{ Wrapped []byte }
	for name, key := range map[string][2]string{"s": {"ed25519+ml-dsa-65", "app"}, "w": {"aes-256-gcm", "app"}, "t": {"ecdsa-p256", "tls"}} {
		err := c.JSON(ctx, "POST", "/v1/kms/keys", "", map[string]any{"name": name, "alg": key[0], "purpose": key[1]}, nil)
		if err == nil {
			err = c.JSON(ctx, "POST", "/v1/kms/keys/"+name+"/rotate", "", nil, nil)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	message := map[string]any{"message": []byte("m")}
	err := errors.Join(c.JSON(ctx, "POST", "/v1/kms/keys/s/sign", "", message, &sig),
		c.JSON(ctx, "POST", "/v1/kms/keys/w/wrap", "", map[string]any{"plaintext": []byte("p")}, &wrapped))
	if err != nil {
		tb.Fatal(err)
	}
	return []kmsCall{
		{"kms:create", "POST", "/v1/kms/keys", map[string]any{"name": "s", "alg": "ed25519+ml-dsa-65", "purpose": "app"}},
		{"kms:list", "GET", "/v1/kms/keys", nil},
		{"kms:list", "GET", "/v1/kms/keys/s/public", nil},
		{"kms:list", "GET", "/v1/kms/objects", nil},
		{"kms:put", "PUT", "/v1/kms/objects/o", map[string]any{}},
		{"kms:sign", "POST", "/v1/kms/keys/s/sign", message},
		{"kms:verify", "POST", "/v1/kms/keys/s/verify", map[string]any{"message": []byte("m"), "signature": sig.Signature}},
		{"kms:wrap", "POST", "/v1/kms/keys/w/wrap", map[string]any{"plaintext": []byte("p")}},
		{"kms:unwrap", "POST", "/v1/kms/keys/w/unwrap", map[string]any{"wrapped": wrapped.Wrapped}},
		{"kms:rotate", "POST", "/v1/kms/keys/s/rotate", nil},
		{"kms:csr", "POST", "/v1/kms/keys/t/csr", map[string]any{"dns": []string{"a.example"}}},
		{"kms:delete", "DELETE", "/v1/kms/keys/t/versions/1", nil},
	}
}

// Each route of the KMS has a verb, and a capability for one verb opens the
// routes of that verb alone. What was done is recorded and counted.
func TestKMSVerbs(t *testing.T) {
	n := beginDev(t)
	calls := kmsCalls(t, n.operator(t))
	routed := 0
	for _, s := range n.behindWall() {
		if s.Name() == "ron-kms" {
			routed = len(s.Routes())
		}
	}
	if routed != len(calls) {
		t.Fatalf("%d routes, %d tried", routed, len(calls))
	}
	token := n.token(t, datadir.OperatorCapName)
	allowed := map[string]int{}
	for _, of := range calls {
		if allowed[of.action] != 0 {
			continue
		}
		c := n.bearer(t, narrowed(t, token, capability.OnActions(of.action)))
		for _, call := range calls {
			err := c.JSON(t.Context(), call.method, call.path, "", call.body, nil)
			if call.action == of.action {
				allowed[of.action]++
				if err != nil {
					t.Errorf("%s does not allow %s %s: %v", of.action, call.method, call.path, err)
				}
				continue
			}
			var p *client.Error
			if !errors.As(err, &p) || p.Status != http.StatusForbidden || p.Code != macronode.CaveatDenied.Info().Code {
				t.Errorf("%s at %s %s: %v", of.action, call.method, call.path, err)
			}
		}
	}
	// No tenant's capability opens any, and no other than the operator's.
	for _, call := range calls {
		var p *client.Error
		if err := n.tenant(t).JSON(t.Context(), call.method, call.path, "", call.body, nil); !errors.As(err, &p) || p.Status != http.StatusForbidden {
			t.Errorf("a tenant at %s %s: %v", call.method, call.path, err)
		}
	}
	log := n.opts.Stderr.(*logBuffer).String()
	_, metrics, err := n.metrics.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"create", "list", "put_object", "sign", "verify", "wrap", "unwrap", "rotate", "csr", "delete"} {
		poll(t, "the record of kms."+op, func() bool {
			log = n.opts.Stderr.(*logBuffer).String()
			return strings.Contains(log, `kms.`+op+`"`) || strings.Contains(log, `kms.`+op+` `)
		})
		if !countsOp(string(metrics), op) {
			t.Errorf("kms_ops_total does not count %s", op)
		}
	}
}

// countsOp reports whether kms_ops_total has a success of op.
func countsOp(metrics, op string) bool {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "kms_ops_total{") && strings.Contains(line, `op="`+op+`"`) && strings.Contains(line, `result="ok"`) && !strings.HasSuffix(line, " 0\n") {
			return true
		}
	}
	return false
}

// load runs f in a loop, in several goroutines, until stop is closed, and keeps
// the first failure.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	count atomic.Int64
	fail  atomic.Pointer[error]
}

func (l *load) run(workers int, f func(i int64) error) {
	for range workers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := f(l.count.Add(1)); err != nil {
					l.fail.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
}

// end stops the load and fails the test where a call failed.
func (l *load) end(tb testing.TB) {
	tb.Helper()
	close(l.stop)
	l.wg.Wait()
	if err := l.fail.Load(); err != nil {
		tb.Fatalf("a call failed: %v", *err)
	}
}

// more waits until at least n further calls have ended, or one has failed.
func (l *load) more(tb testing.TB, n int64) {
	want := l.count.Load() + n
	poll(tb, "calls under way", func() bool { return l.count.Load() >= want || l.fail.Load() != nil })
}

// use signs, verifies what was just signed, wraps, and opens what was just wrapped.
func use(ctx context.Context, c *client.Client, i int64) error {
	text := fmt.Appendf(nil, "message %d", i)
	var sig struct{ Signature []byte }
	var valid struct{ Valid bool }
	var wrapped struct{ Wrapped []byte }
	var plain struct{ Plaintext []byte }
	for _, s := range []struct {
		path    string
		in, out any
	}{
		{"s/sign", map[string]any{"message": text}, &sig},
		{"w/wrap", map[string]any{"plaintext": text}, &wrapped},
	} {
		if err := c.JSON(ctx, "POST", "/v1/kms/keys/"+s.path, "", s.in, s.out); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	err := errors.Join(c.JSON(ctx, "POST", "/v1/kms/keys/s/verify", "", map[string]any{"message": text, "signature": sig.Signature}, &valid),
		c.JSON(ctx, "POST", "/v1/kms/keys/w/unwrap", "", map[string]any{"wrapped": wrapped.Wrapped}, &plain))
	if err != nil {
		return fmt.Errorf("verify or unwrap: %w", err)
	}
	if !valid.Valid || !bytes.Equal(plain.Plaintext, text) {
		return fmt.Errorf("valid %v, opened %d bytes", valid.Valid, len(plain.Plaintext))
	}
	return nil
}

// Keys rotate fifty times under load, and not one call fails: not one that
// signs, verifies, wraps or unwraps, and none with a capability, whose minting
// key rotates too.
func TestRotationUnderLoad(t *testing.T) {
	n := beginDev(t)
	op := n.operator(t)
	kmsCalls(t, op)
	ctx := t.Context()
	l := &load{stop: make(chan struct{})}
	l.run(3, func(i int64) error { return use(ctx, op, i) })

	// The tenant's client gets a new token after each rotation, as it would
	// well before three of them have passed.
	var current atomic.Pointer[client.Client]
	current.Store(n.tenant(t))
	tenant, err := op.Tenant(ctx, "dev")
	if err != nil {
		t.Fatal(err)
	}
	mint := "/v1/kms/keys/" + access.MintKeyName(tenant.ID) + "/rotate"
	calls := &load{stop: l.stop}
	calls.run(2, func(int64) error {
		return current.Load().JSON(ctx, "GET", "/v1/objects?limit=1", "", nil, nil)
	})
	const rotations = 50
	for range rotations {
		for _, path := range []string{"/v1/kms/keys/s/rotate", "/v1/kms/keys/w/rotate", mint} {
			if err := op.JSON(ctx, "POST", path, "", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		minted, err := op.Mint(ctx, client.MintRequest{Tenant: "dev"}, "")
		if err != nil {
			t.Fatal(err)
		}
		calls.more(t, 2) // under the token of before
		current.Store(n.bearer(t, minted.Token))
		calls.more(t, 3)
		l.more(t, 1)
	}
	l.end(t)
	calls.wg.Wait()
	if err := calls.fail.Load(); err != nil {
		t.Fatalf("a call with a capability failed: %v", *err)
	}
	t.Logf("%d rounds of four uses, %d calls with a capability, %d rotations of 3 keys", l.count.Load(), calls.count.Load(), rotations)
}

// The current minting key and the two before it verify; one more rotation and a
// token is dead. The operator's own, too.
func TestMintKeysThatVerify(t *testing.T) {
	n := beginDev(t)
	op := n.operator(t)
	ctx := t.Context()
	system := access.MintKeyName(macronode.SystemTenant)
	first := n.token(t, datadir.OperatorCapName)
	live := op
	for i := range 3 {
		if err := n.bearer(t, first).JSON(ctx, "GET", "/v1/kms/keys", "", nil, nil); err != nil {
			t.Fatalf("after %d rotations: %v", i, err)
		}
		if err := live.JSON(ctx, "POST", "/v1/kms/keys/"+system+"/rotate", "", nil, nil); err != nil {
			t.Fatal(err)
		}
		minted, err := live.Mint(ctx, client.MintRequest{}, "")
		if err != nil {
			t.Fatal(err)
		}
		live = n.bearer(t, minted.Token)
	}
	var p *client.Error
	if err := n.bearer(t, first).JSON(ctx, "GET", "/v1/kms/keys", "", nil, nil); !errors.As(err, &p) || p.Status != http.StatusUnauthorized {
		t.Fatalf("a token under a key three rotations old: %v", err)
	}
	if err := live.JSON(ctx, "GET", "/v1/kms/keys", "", nil, nil); err != nil {
		t.Fatal(err)
	}
}
