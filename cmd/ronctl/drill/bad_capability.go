// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
)

var badCapability = Drill{
	Name:    "bad-capability",
	Shows:   "every bad capability is refused for what is wrong with it, floods of them too, and the good one works",
	NotLive: "its flood would have the address it comes from sent away",
	play:    func(ctx context.Context, s *scene) error { return (&badCaps{scene: s}).play(ctx) },
}

// floodMost ends a flood that is not noticed: the bucket holds 1000 failures.
const floodMost = 20_000

type badCaps struct {
	*scene
	token *capability.Token
	held  object
	sent  int
}

func (d *badCaps) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.each, d.revoked, d.flood} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *badCaps) begin(ctx context.Context) error {
	return d.step(ctx, "start a node, put an object with a good capability", "it becomes ready and takes it", func(ctx context.Context, st *Step) error {
		if err := d.startDev(ctx); err != nil {
			return err
		}
		text, err := os.ReadFile(d.tenantCap)
		if err != nil {
			return err
		}
		if d.token, err = capability.Parse(strings.TrimSpace(string(text))); err != nil {
			return err
		}
		d.held = newObject(1 << 10)
		st.saw("ready")
		return d.put(ctx, d.held)
	})
}

// with reads the object with a token.
func (d *badCaps) with(ctx context.Context, token string) error {
	c, err := client.Dial("http://"+d.host, client.Options{Token: token, Retries: -1, UserAgent: "ronctl-drill"})
	if err != nil {
		return err
	}
	defer c.Close()
	resp, err := c.Do(ctx, client.Request{Method: "GET", Path: "/o/" + d.held.addr.String()})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// badToken is one with what a node must say to it.
type badToken struct {
	name, token string
	status      int
	code        string
}

// tokens makes one of each kind, and many that are torn.
func (d *badCaps) tokens() (out []badToken, err error) {
	good := d.token.Text()
	narrowed := func(name string, status int, code string, c ...capability.Caveat) {
		t, e := d.token.Attenuate(c...)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
			return
		}
		out = append(out, badToken{name, t.Text(), status, code})
	}
	narrowed("expired", 401, "expired", capability.ExpiresAt(time.Now().Add(-time.Hour).Unix()))
	narrowed("not yet valid", 401, "not_yet_valid", capability.NotBefore(time.Now().Add(time.Hour).Unix()))
	narrowed("another node's", 401, "audience", capability.ForNode("b3:"+strings.Repeat("0", 64)))
	narrowed("another address", 401, "address", capability.FromNets(netip.MustParsePrefix("192.0.2.0/24")))
	narrowed("another client certificate", 401, "client_cert", capability.WithClientCert([32]byte{1}))
	narrowed("another action", 403, "caveat", capability.OnActions("object:put"))
	narrowed("another resource", 403, "caveat", capability.OnResources("name/www"))
	narrowed("another method", 403, "caveat", capability.ByMethods("PUT"))
	narrowed("another service", 403, "caveat", capability.ConfinedTo("svc-mailbox"))
	narrowed("another policy", 403, "caveat", capability.UnderPolicy([32]byte{1}))
	last := byte('A')
	if good[len(good)-6] == last {
		last = 'B'
	}
	out = append(out, badToken{"a changed tag", good[:len(good)-6] + string(last) + good[len(good)-5:], 401, "forged"})
	for i := len("ron1_"); i < len(good); i += max(1, len(good)/40) {
		out = append(out, badToken{fmt.Sprintf("cut after %d characters", i), good[:i], 401, "malformed"})
	}
	for _, text := range []string{"x", "ron2_" + good[5:], good + "AAAA", strings.ToUpper(good), "ron1_" + strings.Repeat("A", 5000)} {
		out = append(out, badToken{"what is none", text, 401, "malformed"})
	}
	return out, err
}

func (d *badCaps) each(ctx context.Context) error {
	return d.step(ctx, "show dozens of capabilities that are torn, forged, expired, foreign or too narrow", "401 or 403, each with its own code; the good one works after each", func(ctx context.Context, st *Step) error {
		all, err := d.tokens()
		if err != nil {
			return err
		}
		codes := map[string]bool{}
		for _, b := range all {
			if err := refused(d.with(ctx, b.token), b.status, b.code); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			codes[b.code] = true
			if err := d.right(ctx, d.held); err != nil {
				return fmt.Errorf("the good one after %s: %w", b.name, err)
			}
		}
		d.sent = len(all)
		st.count("tokens", float64(len(all)))
		st.count("codes", float64(len(codes)))
		st.saw("%d refused, with %d codes", len(all), len(codes))
		return nil
	})
}

func (d *badCaps) revoked(ctx context.Context) error {
	return d.step(ctx, "revoke a narrowed capability", "it worked, and is 401 revoked within a second; what it was narrowed from works", func(ctx context.Context, st *Step) error {
		t, err := d.token.Attenuate(capability.OnActions("object:get"))
		if err != nil {
			return err
		}
		if err := d.with(ctx, t.Text()); err != nil {
			return err
		}
		begun := time.Now()
		if err := d.operator.Revoke(ctx, t.LeafID().String()); err != nil {
			return err
		}
		err = d.await(ctx, time.Second, func() error { return refused(d.with(ctx, t.Text()), http.StatusUnauthorized, "revoked") })
		st.count("revoked_after_ms", ms(time.Since(begun)))
		st.saw("revoked after %s", time.Since(begun).Round(time.Millisecond))
		return errors.Join(err, d.right(ctx, d.held))
	})
}

func (d *badCaps) flood(ctx context.Context) error {
	return d.step(ctx, "flood it with bad capabilities from one address", "429 auth_flood with Retry-After after about 1000; the good one works all the time from elsewhere, and from there once the flood is over", func(ctx context.Context, st *Step) error {
		c, err := client.Dial("http://"+d.host, client.Options{Token: "ron1_AAAA", Retries: -1, UserAgent: "ronctl-drill"})
		if err != nil {
			return err
		}
		defer c.Close()
		elsewhere, err := client.Dial("unix://"+filepath.Join(d.data(), "admin.sock"), client.Options{Token: d.token.Text(), Retries: -1, UserAgent: "ronctl-drill"})
		if err != nil {
			return err
		}
		defer elsewhere.Close()
		for n := 1; n < floodMost; n++ {
			_, err := c.List(ctx, "", "", 1)
			var e *client.Error
			if !errors.As(err, &e) {
				return fmt.Errorf("attempt %d: %w", n, err)
			}
			if n%100 == 0 || e.Status == http.StatusTooManyRequests {
				if _, err := elsewhere.List(ctx, "", "", 1); err != nil {
					return fmt.Errorf("the good one after %d: %w", n, err)
				}
			}
			if e.Status == http.StatusTooManyRequests {
				st.count("attempts", float64(n))
				st.saw("429 %s at attempt %d, come back after %s; the good one works", e.Code, n, e.RetryAfter)
				if e.Code != "auth_flood" || e.RetryAfter <= 0 {
					return err
				}
				return d.await(ctx, time.Second, func() error { return d.right(ctx, d.held) })
			}
			if err := refused(err, http.StatusUnauthorized, "malformed"); err != nil {
				return err
			}
		}
		return errors.New("nobody noticed")
	})
}
