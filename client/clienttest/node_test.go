// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/clienttest"
)

var wires = []clienttest.Wire{clienttest.HTTP, clienttest.OAP}

// eachWire runs f against a fresh node over either wire.
func eachWire(t *testing.T, o clienttest.Options, co client.Options, f func(t *testing.T, n *clienttest.Node, c *client.Client)) {
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			n := clienttest.Start(o)
			defer n.Close()
			c, err := n.Dial(w, co)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f(t, n, c)
		})
	}
}

func TestFakeConforms(t *testing.T) {
	for name, o := range map[string]clienttest.Options{"open": {}, "checked": {Check: true}} {
		t.Run(name, func(t *testing.T) {
			eachWire(t, o, client.Options{Retries: -1}, func(t *testing.T, _ *clienttest.Node, c *client.Client) {
				if err := clienttest.Conform(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>8) ^ byte(i*7)
	}
	return p
}

// TestFakeRefuses: refusals of a kind, as often as asked for, with the time to
// come back.
func TestFakeRefuses(t *testing.T) {
	eachWire(t, clienttest.Options{}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		addr := n.Put([]byte("x"), "text/plain")
		n.Inject(clienttest.Fault{Op: "object.stat", Skip: 1, Times: 2, Effect: clienttest.Refuse(macronode.Overload, 20*time.Millisecond)})
		for range 2 { // the second is refused twice, and tried again
			if s, err := c.Stat(t.Context(), addr); err != nil || s.Size != 1 {
				t.Fatalf("%+v, %v", s, err)
			}
		}
		if s := c.Stats(); s.Calls != 2 || s.Retries != 2 || len(n.Calls()) != 4 {
			t.Errorf("%+v, %d calls came", s, len(n.Calls()))
		}
		n.Inject(clienttest.Fault{Times: -1, Effect: clienttest.Refuse(macronode.QuotaBytes, 0)})
		var refused *client.Error
		if _, err := c.Put(t.Context(), strings.NewReader("y"), client.PutOptions{}); !errors.As(err, &refused) || refused.Code != "quota_bytes" || refused.CorrID == "" {
			t.Errorf("got %v", err)
		}
		n.Heal()
		if _, err := c.Put(t.Context(), strings.NewReader("y"), client.PutOptions{}); err != nil {
			t.Errorf("after that: %v", err)
		}
		if got, ok := n.Object(b3.Sum([]byte("y"))); !ok || string(got) != "y" {
			t.Errorf("stored: %q, %v", got, ok)
		}
	})
}

// TestFakeBreaks: a get goes on where its connection broke, and a put is made
// again; a broken delete that was done is no error.
func TestFakeBreaks(t *testing.T) {
	eachWire(t, clienttest.Options{}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		data := pattern(4 << 20)
		n.Inject(clienttest.Fault{Op: "object.post", Effect: clienttest.Break(0)})
		put, err := c.Put(t.Context(), bytes.NewReader(data), client.PutOptions{})
		if err != nil || !put.Existed {
			t.Fatalf("%+v, %v", put, err)
		}
		n.Inject(clienttest.Fault{Op: "object.get", Times: 2, Effect: clienttest.Break(1_500_000)})
		var out bytes.Buffer
		if _, err := c.Get(t.Context(), put.Addr, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("%d bytes, %v", out.Len(), err)
		}
		gets := 0
		for _, call := range n.Calls() {
			if call.Op == "object.get" {
				gets++
			}
		}
		if gets != 3 {
			t.Errorf("%d gets", gets)
		}
		// Going on after a megabyte costs the budget nothing. Over OAP/1 what came
		// and was not read yet is lost with the answer, and less may have been.
		if s := c.Stats(); s.Retries != 1 && n.Calls()[0].Wire == clienttest.HTTP || s.Retries > 3 {
			t.Errorf("%+v", s)
		}
		n.Inject(clienttest.Fault{Op: "object.delete", Effect: clienttest.Break(0)})
		if err := c.Delete(t.Context(), put.Addr); err != nil {
			t.Error(err)
		}
	})
}

// TestFakeCorrupts: not one byte behind the good ones comes through, whatever
// way it is fetched, and that is not tried again.
func TestFakeCorrupts(t *testing.T) {
	eachWire(t, clienttest.Options{}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		data := pattern(200_000)
		addr := n.Put(data, "")
		n.Inject(clienttest.Fault{Op: "object.get", Times: -1, Effect: clienttest.Corrupt(100_000)})
		var out bytes.Buffer
		_, err := c.Get(t.Context(), addr, &out, client.GetOptions{})
		var damage *client.DamageError
		if !errors.As(err, &damage) || !errors.Is(err, client.ErrIntegrity) || damage.Off > 100_000 || damage.Off+damage.Len <= 100_000 || !bytes.Equal(out.Bytes(), data[:damage.Off]) {
			t.Errorf("%d bytes, %v", out.Len(), err)
		}
		r, err := c.GetRange(t.Context(), addr, 90_000, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); !errors.Is(err, client.ErrIntegrity) || !bytes.Equal(got, data[90_000:][:len(got)]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if s := c.Stats(); s.Retries != 0 || len(n.Calls()) != 2 {
			t.Errorf("%+v, %d calls", s, len(n.Calls()))
		}
	})
}

// TestFakeDelays: a deadline ends the wait, and the node hears of it.
func TestFakeDelays(t *testing.T) {
	eachWire(t, clienttest.Options{}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		n.Inject(clienttest.Fault{Effect: clienttest.Delay(time.Hour)})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := c.List(ctx, "", "", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := c.List(t.Context(), "", "", 0); err != nil {
			t.Errorf("after that: %v", err)
		}
		n.Close() // returns, for the call that was held back ended with its caller
	})
}

// TestFakeChecks: capabilities are narrowed to each call on either wire, carry
// discharges, and are refused as a node does.
func TestFakeChecks(t *testing.T) {
	eachWire(t, clienttest.Options{Check: true}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		addr := n.Put([]byte("x"), "")
		if _, err := c.Stat(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
		last := func() *capability.Token {
			calls := n.Calls()
			tok, err := capability.Parse(strings.TrimPrefix(calls[len(calls)-1].Header.Get("Authorization"), "Bearer "))
			if err != nil {
				t.Fatal(err)
			}
			return tok
		}
		var actions []string
		for _, cv := range last().Caveats() {
			if cv.Type() == capability.Actions {
				actions = append(actions, cv.List()...)
			}
		}
		if !slices.Equal(actions, []string{"object:get"}) {
			t.Errorf("a stat carried a capability for %q", actions)
		}
		wire := clienttest.HTTP
		if n.Calls()[0].Wire == clienttest.OAP {
			wire = clienttest.OAP
		}
		for name, tc := range map[string]struct {
			o      client.Options
			status int
		}{
			"none":      {client.Options{Token: " "}, 401},
			"no token":  {client.Options{Token: "ron1_%%%"}, 401},
			"forged":    {client.Options{Token: forged(t)}, 401},
			"too small": {client.Options{Token: token(t, n, capability.OnActions("object:list"))}, 403},
			"expired":   {client.Options{Token: token(t, n, capability.ExpiresAt(1))}, 401},
		} {
			c, err := n.Dial(wire, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			var refused *client.Error
			if _, err := c.Stat(t.Context(), addr); !errors.As(err, &refused) || refused.Status != tc.status || !refused.Denied() {
				t.Errorf("%s: %v", name, err)
			}
			c.Close()
		}
	})
}

func token(t *testing.T, n *clienttest.Node, caveats ...capability.Caveat) string {
	t.Helper()
	text, err := n.Token(caveats...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func forged(t *testing.T) string {
	other := clienttest.Start(clienttest.Options{})
	defer other.Close()
	return token(t, other)
}

// TestFakeDischarges: a capability with a third party's caveat works with its
// discharge, bound to what is sent, and not without.
func TestFakeDischarges(t *testing.T) {
	shared := [capability.KeyBytes]byte{1, 2, 3}
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			n := clienttest.Start(clienttest.Options{Check: true})
			defer n.Close()
			root, err := capability.Parse(token(t, n))
			if err != nil {
				t.Fatal(err)
			}
			tok, err := root.AddThirdParty("https://sso.example", "k", &shared)
			if err != nil {
				t.Fatal(err)
			}
			o, err := tok.Tickets()[0].Open(&shared)
			if err != nil {
				t.Fatal(err)
			}
			d, err := o.Discharge()
			if err != nil {
				t.Fatal(err)
			}
			for name, tc := range map[string]struct {
				discharges []string
				ok         bool
			}{"with it": {[]string{d.Text()}, true}, "without": {nil, false}} {
				c, err := n.Dial(w, client.Options{Token: tok.Text(), Discharges: tc.discharges})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.List(t.Context(), "", "", 0); (err == nil) != tc.ok {
					t.Errorf("%s: %v", name, err)
				}
				c.Close()
			}
		})
	}
}

// TestClockOff: a node whose clock is ahead finds narrowed capabilities expired;
// the client gets along with it on either wire.
func TestClockOff(t *testing.T) {
	now := func() time.Time { return time.Now().Add(3 * time.Hour) }
	eachWire(t, clienttest.Options{Check: true, Now: now}, client.Options{}, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		for range 3 {
			if _, err := c.List(t.Context(), "", "", 0); err != nil {
				t.Fatal(err)
			}
			// Not one that may be repeated: the refusal let nothing be done.
			if err := c.JSON(t.Context(), "POST", "/o", "", "x", nil); err != nil {
				t.Fatal(err)
			}
		}
		if s := c.Stats(); s.Retries != 1 {
			t.Errorf("%+v", s)
		}
		caveats := func() (types []capability.Type) {
			calls := n.Calls()
			tok, err := capability.Parse(strings.TrimPrefix(calls[len(calls)-1].Header.Get("Authorization"), "Bearer "))
			if err != nil {
				t.Fatal(err)
			}
			for _, cv := range tok.Caveats() {
				types = append(types, cv.Type())
			}
			return types
		}()
		if !slices.Contains(caveats, capability.Actions) || !slices.Contains(caveats, capability.Resources) {
			t.Errorf("what is sent is no longer narrowed: %v", caveats)
		}
	})
}

// TestDrainAndBreak: connections that end between calls are replaced, and not one
// call is lost or made twice.
func TestDrainAndBreak(t *testing.T) {
	o := client.Options{RetryBudget: client.RetryBudget{Burst: 100}}
	eachWire(t, clienttest.Options{}, o, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		for i := range 20 {
			// A POST without a key may not be repeated, unless nothing was done.
			if err := c.JSON(t.Context(), "POST", "/o", "", i, nil); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			n.Drain()
		}
		posts := 0
		for _, call := range n.Calls() {
			if call.Op == "object.post" {
				posts++
			}
		}
		if posts != 20 {
			t.Errorf("%d posts came", posts)
		}
		for i := range 20 {
			if _, err := c.List(t.Context(), "", "", 0); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			n.Break()
		}
	})
}

// TestStormOfFaults: many at once, while connections break and calls are refused:
// what came is right, whatever happened.
func TestStormOfFaults(t *testing.T) {
	o := client.Options{RetryBudget: client.RetryBudget{Ratio: 1, Burst: 1000}, Retries: 20}
	eachWire(t, clienttest.Options{}, o, func(t *testing.T, n *clienttest.Node, c *client.Client) {
		n.Inject(clienttest.Fault{Op: "object.post", Skip: 3, Times: 5, Effect: clienttest.Refuse(macronode.Overload, time.Millisecond)})
		n.Inject(clienttest.Fault{Op: "object.get", Skip: 5, Times: 5, Effect: clienttest.Break(5000)})
		n.Inject(clienttest.Fault{Op: "object.get", Skip: 5, Times: 3, Effect: clienttest.Break(0)})
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for j := range 4 {
					data := pattern(10_000 + 1000*i + j)
					put, err := c.Put(t.Context(), bytes.NewReader(data), client.PutOptions{})
					if err != nil {
						t.Errorf("put: %v", err)
						return
					}
					var out bytes.Buffer
					if _, err := c.Get(t.Context(), put.Addr, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), data) {
						t.Errorf("get: %d of %d bytes, %v", out.Len(), len(data), err)
					}
				}
			})
		}
		wg.Wait()
	})
}
