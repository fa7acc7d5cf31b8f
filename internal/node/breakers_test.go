// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/store"
)

// code is the status and code of a refusal, or "ok".
func code(err error) string {
	var e *client.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return http.StatusText(e.Status) + " " + e.Code
	}
	return err.Error()
}

// Metadata held off: what needs it is refused at once and says when to come back;
// the operator's routes and the probes answer, with an Idempotency-Key too.
func TestMetadataHeldOff(t *testing.T) {
	n := beginDev(t)
	op, tenant := n.operator(t), n.tenant(t)
	ctx := t.Context()
	put := func() error {
		_, err := tenant.Put(ctx, strings.NewReader("some bytes"), client.PutOptions{})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	key := func(k, path string, body any) error { return op.JSON(ctx, "POST", "/v1/admin/"+path, k, body, nil) }
	if err := key("k1", "breakers/metadata", map[string]any{"state": "open", "reason": "a test"}); err != nil {
		t.Fatal(err)
	}
	err := put()
	if code(err) != "Service Unavailable unavailable" {
		t.Errorf("a put: %v", err)
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.RetryAfter != breaker.HeldRetry {
		t.Errorf("come back after %v", e.RetryAfter)
	}
	poll(t, "not ready", func() bool {
		r, err := op.Ready(ctx)
		return err == nil && slices.Contains(r.Missing, "breaker_metadata")
	})
	if _, err := op.Text(ctx, "/healthz", 100); err != nil {
		t.Error(err)
	}
	doc, err := op.Document(ctx, "/v1/admin/status")
	if err != nil || !bytes.Contains(doc, []byte(`"name":"metadata","state":"open","mode":"open"`)) {
		t.Errorf("%s %v", doc, err)
	}
	for i, path := range []string{"drain", "undrain"} {
		if err := key("k2"+path, path, nil); err != nil {
			t.Errorf("%d %s: %v", i, path, err)
		}
	}
	metrics, err := op.Text(ctx, "/metrics", 8<<20)
	if err != nil || !bytes.Contains(metrics, []byte(`breaker_state{dependency="metadata",state="open"} 1`)) ||
		!bytes.Contains(metrics, []byte(`breaker_transitions_total{dependency="metadata",state="open"} 1`)) {
		t.Errorf("the metrics say nothing of it: %v", err)
	}
	if err := key("k3", "breakers/metadata", map[string]any{"state": "auto"}); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Error(err)
	}
	poll(t, "ready again", func() bool { r, err := op.Ready(ctx); return err == nil && r.Ready })
	events, _, err := op.Events(ctx, 0, 1000)
	if err != nil || !slices.ContainsFunc(events, func(e client.Event) bool {
		return e.Event == "Breaker" && e.Attrs["dependency"] == "metadata" && e.Attrs["state"] == "open" && e.Attrs["reason"] == "a test"
	}) {
		t.Errorf("no event: %v", err)
	}
	if log := n.opts.Stderr.(*logBuffer).String(); !strings.Contains(log, "KernelEvent::Breaker{dependency=metadata, state=open}") || !strings.Contains(log, "breaker.force") {
		t.Error("neither event nor audit record is in the log")
	}
	if _, err := tenant.Breakers(ctx); code(err) != "Forbidden denied" {
		t.Errorf("a tenant looks at the breakers: %v", err)
	}
	if _, err := tenant.ForceBreaker(ctx, "metadata", "open", 0, ""); code(err) != "Forbidden denied" {
		t.Errorf("a tenant forces a breaker: %v", err)
	}
}

// The other stores held off refuse too.
func TestStoresHeldOff(t *testing.T) {
	n := beginDev(t)
	op, tenant := n.operator(t), n.tenant(t)
	made := 0
	for name, do := range map[string]func() error{
		"objects": func() error {
			_, err := tenant.Put(t.Context(), strings.NewReader("some bytes"), client.PutOptions{})
			return err
		},
		"mailbox": func() error {
			return tenant.JSON(t.Context(), "POST", "/v1/mailbox/jobs/messages", "", map[string]any{"a": "message"}, nil)
		},
		"keystore": func() error {
			made++
			return op.JSON(t.Context(), "POST", "/v1/kms/keys", "", map[string]any{"name": fmt.Sprint("made-", made), "alg": "ed25519", "purpose": "app"}, nil)
		},
	} {
		if _, err := op.ForceBreaker(t.Context(), name, "open", time.Second, ""); err != nil {
			t.Fatal(err)
		}
		if got := code(do()); !strings.HasPrefix(got, "Service Unavailable") {
			t.Errorf("%s held off: %s", name, got)
		}
		poll(t, name+" is let go by itself", func() bool {
			list, err := op.Breakers(t.Context())
			return err == nil && states(list) == strings.TrimSpace(strings.Repeat("closed ", len(list)))
		})
		poll(t, "work again with "+name, func() bool { return do() == nil })
	}
}

func states(list []client.Breaker) string {
	var out []string
	for _, b := range list {
		out = append(out, b.State)
	}
	return strings.Join(out, " ")
}

// The policy's source is away: past the time to live everything is denied and the
// node is not ready; when it is back, so is the node, by itself.
func TestPolicySourceAway(t *testing.T) {
	n := beginDev(t)
	op, tenant := n.operator(t), n.tenant(t)
	ctx := t.Context()
	list := func() string { _, err := tenant.List(ctx, "", "", 1); return code(err) }
	if got := list(); got != "ok" {
		t.Fatal(got)
	}
	store, away := n.dir.At(datadir.KeystoreDir), n.dir.At(datadir.KeystoreDir)+".away"
	if err := os.Rename(store, away); err != nil {
		t.Fatal(err)
	}
	poll(t, "denial", func() bool { return list() == "Service Unavailable policy_unavailable" })
	if got := code(op.JSON(ctx, "GET", "/v1/admin/status", "", nil, nil)); got != "Service Unavailable policy_unavailable" {
		t.Errorf("the operator: %s", got)
	}
	poll(t, "not ready", func() bool {
		r, err := op.Ready(ctx)
		return err == nil && slices.Contains(r.Missing, "ron-policy") && slices.Contains(r.Missing, "breaker_policy_source")
	})
	if _, err := op.Text(ctx, "/healthz", 100); err != nil {
		t.Error(err)
	}
	if err := os.Rename(away, store); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	poll(t, "permission", func() bool { return list() == "ok" })
	t.Logf("back after %s", time.Since(begun).Round(time.Millisecond))
	poll(t, "ready", func() bool { r, err := op.Ready(ctx); return err == nil && r.Ready })

	// Held off by force: the operator is locked out with everybody, so it ends by
	// itself, or by a reload.
	if _, err := op.ForceBreaker(ctx, guard.PolicyName, "open", time.Minute, ""); code(err) != "Unprocessable Entity invalid" {
		t.Error(err)
	}
	if _, err := op.ForceBreaker(ctx, guard.PolicyName, "open", 0, ""); err != nil {
		t.Fatal(err)
	}
	poll(t, "denial", func() bool { return list() == "Service Unavailable policy_unavailable" })
	if _, err := n.Reload(ctx); err != nil {
		t.Errorf("a reload while policy's source is held off: %v", err)
	}
	poll(t, "permission", func() bool { return list() == "ok" })
}

// What the services get is behind the breakers.
func TestWiredBehindBreakers(t *testing.T) {
	n := beginDev(t)
	for name, kv := range map[string]func() error{
		"metadata": func() error {
			return n.kv.View(context.Background(), func(store.Reader) error { return nil })
		},
		"objects": func() error { _, err := n.bytes.Volumes(context.Background()); return err },
	} {
		b, err := n.breakers.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		b.Force(breaker.ForcedOpen, 0, "")
		if err := kv(); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
		b.Force(breaker.Auto, 0, "")
	}
}
