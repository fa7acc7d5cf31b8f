// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
)

// planted is a token that must not show up, in the forms that it could.
type planted struct {
	name  string
	forms []string
}

func plant(tb testing.TB, name, token string) planted {
	tb.Helper()
	p := planted{name: name}
	body := strings.TrimPrefix(token, "ron1_")
	// The middle: what is cut at either end, or after the prefix, is found too.
	// It lies in the signed tail, which no two tokens share.
	p.forms = append(p.forms, body[len(body)-40:len(body)-8])
	if raw, err := base64.RawURLEncoding.DecodeString(body); err == nil {
		tail := raw[len(raw)-24:]
		p.forms = append(p.forms, string(tail), hex.EncodeToString(tail), strings.ToUpper(hex.EncodeToString(tail)))
	}
	p.forms = append(p.forms, url.QueryEscape(p.forms[0]), base64.StdEncoding.EncodeToString([]byte(token))[8:40])
	return p
}

func (p planted) in(tb testing.TB, where string, text []byte) {
	tb.Helper()
	for i, form := range p.forms {
		if bytes.Contains(text, []byte(form)) {
			tb.Errorf("%s: the %s token is in it, as form %d", where, p.name, i)
		}
	}
}

// misuse is a request that the node refuses, or answers, with a token somewhere.
type misuse struct {
	name string
	req  func(base, token string) *http.Request
}

func request(method, target string, header map[string]string, body string) *http.Request {
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		panic(err) // a constant of this file
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	return r
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

// ways put a token where it belongs and where it does not.
var ways = []misuse{
	{"as it should be", func(b, t string) *http.Request { return request("GET", b+"/v1/objects", bearer(t), "") }},
	{"denied by policy", func(b, t string) *http.Request { return request("GET", b+"/v1/tenants", bearer(t), "") }},
	{"denied by the KMS", func(b, t string) *http.Request {
		return request("POST", b+"/v1/kms/keys/k/sign", bearer(t), `{"message":"bQ=="}`)
	}},
	{"no such route", func(b, t string) *http.Request { return request("GET", b+"/nowhere", bearer(t), "") }},
	{"wrong method", func(b, t string) *http.Request { return request("PATCH", b+"/v1/objects", bearer(t), "") }},
	{"doubled", func(b, t string) *http.Request {
		r := request("GET", b+"/v1/objects", bearer(t), "")
		r.Header.Add("Authorization", "Bearer "+t)
		return r
	}},
	{"another scheme", func(b, t string) *http.Request {
		return request("GET", b+"/v1/objects", map[string]string{"Authorization": "Basic " + t}, "")
	}},
	{"trailing text", func(b, t string) *http.Request { return request("GET", b+"/v1/objects", bearer(t+" x"), "") }},
	{"in the query", func(b, t string) *http.Request { return request("GET", b+"/v1/objects?token="+t, nil, "") }},
	{"as a cursor", func(b, t string) *http.Request {
		return request("GET", b+"/v1/objects?cursor="+t+"&limit=x", bearer(t), "")
	}},
	{"in the path", func(b, t string) *http.Request { return request("GET", b+"/o/"+t, bearer(t), "") }},
	{"as an unknown path", func(b, t string) *http.Request { return request("GET", b+"/"+t, nil, "") }},
	{"as a tenant", func(b, t string) *http.Request { return request("GET", b+"/v1/tenants/"+t, bearer(t), "") }},
	{"as a key's name", func(b, t string) *http.Request {
		return request("POST", b+"/v1/kms/keys/"+t+"/rotate", bearer(t), "")
	}},
	{"as an idempotency key", func(b, t string) *http.Request {
		h := bearer(t)
		h["Idempotency-Key"] = t[:min(len(t), 120)]
		return request("POST", b+"/o", h, "x")
	}},
	{"as a precondition", func(b, t string) *http.Request {
		h := bearer(t)
		h["If-Match"], h["Range"], h["Content-Encoding"], h["Accept"] = t, t, t, t
		return request("GET", b+"/v1/objects", h, "")
	}},
	{"as a media type", func(b, t string) *http.Request {
		h := bearer(t)
		h["Content-Type"], h["Content-Encoding"] = t, t
		return request("POST", b+"/o", h, "x")
	}},
	{"as ids", func(b, t string) *http.Request {
		h := bearer(t)
		h["X-Corr-Id"], h["Traceparent"], h["User-Agent"], h["Cookie"], h["Origin"], h["Referer"] = t, t, t, t, t, t
		return request("GET", b+"/v1/tenants", h, "")
	}},
	{"in a body that is no JSON", func(b, t string) *http.Request { return request("POST", b+"/v1/caps", bearer(t), t) }},
	{"as a member's name", func(b, t string) *http.Request {
		return request("POST", b+"/v1/caps", bearer(t), `{"`+t+`":1}`)
	}},
	{"as a member's value", func(b, t string) *http.Request {
		return request("POST", b+"/v1/caps", bearer(t), `{"tenant":"`+t+`","actions":["`+t+`"],"ipnets":["`+t+`"]}`)
	}},
	{"as an id to revoke", func(b, t string) *http.Request {
		return request("POST", b+"/v1/caps/revoke", bearer(t), `{"id":"`+t+`"}`)
	}},
	{"as a label", func(b, t string) *http.Request {
		return request("POST", b+"/v1/tenants", bearer(t), `{"label":"`+t+`"}`)
	}},
}

// TestTokensAreNeverTold drives every way a call can be refused with tokens of
// every sort, in the right place and in wrong ones, at log level debug. No answer
// but the one that mints, no line of the log (audit records are in it), no metric
// and no admin route has a token, whole or in part, in any form.
func TestTokensAreNeverTold(t *testing.T) {
	o := prepareDev(t, t.TempDir())
	o.Overrides.LogLevel = config.Setting{Value: "debug", Origin: config.Origin{Kind: config.FromFlag, Where: "--log-level"}}
	n := begin(t, o)
	op := n.operator(t)
	minted, err := op.Mint(t.Context(), client.MintRequest{Tenant: "dev", ExpiresS: 1}, "")
	if err != nil {
		t.Fatal(err)
	}
	tenant, operator := n.token(t, datadir.TenantCapName), n.token(t, datadir.OperatorCapName)
	revoked := narrowed(t, tenant, capability.ByMethods("GET", "HEAD"))
	if v, err := capability.Parse(revoked); err != nil {
		t.Fatal(err)
	} else if err := op.Revoke(t.Context(), v.LeafID().String()); err != nil {
		t.Fatal(err)
	}
	forged := tenant[:len(tenant)-20] + strings.Repeat("A", 4) + tenant[len(tenant)-16:]
	tokens := map[string]string{
		"tenant's": tenant, "operator's": operator, "revoked": revoked, "forged": forged, "soon expired": minted.Token,
		"expired":  narrowed(t, tenant, capability.ExpiresAt(1)),
		"narrowed": narrowed(t, tenant, capability.OnActions("object:get"), capability.ConfinedTo("ron-kms")),
		"too long": tenant + strings.Repeat("A", 9000), "cut": tenant[:len(tenant)-5],
	}
	var plants []planted
	for name, token := range tokens {
		if name == "cut" || name == "too long" {
			plants = append(plants, plant(t, "tenant's", tenant))
			continue
		}
		plants = append(plants, plant(t, name, token))
	}
	base := n.endpoints().HTTP
	hc := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer hc.CloseIdleConnections()
	statuses := map[int]int{}
	for name, token := range tokens {
		for _, way := range ways {
			resp, err := hc.Do(way.req(base, token))
			if err != nil {
				t.Fatalf("%s, %s: %v", name, way.name, err)
			}
			statuses[resp.StatusCode]++
			text, err := httputil.DumpResponse(resp, true)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range plants {
				p.in(t, fmt.Sprintf("answer to the %s, %s", name, way.name), text)
			}
		}
	}
	for _, status := range []int{200, 400, 401, 403, 404, 405} {
		if statuses[status] == 0 {
			t.Errorf("no way ended with %d: %v", status, statuses)
		}
	}
	n.oapTokens(t, tenant)
	for _, path := range []string{"/metrics", "/readyz", "/version", "/v1/admin/status", "/v1/admin/storage", "/v1/caps/revocations", "/v1/kms/keys", "/v1/kms/objects", "/v1/tenants"} {
		resp, err := hc.Do(request("GET", base+path, bearer(operator), ""))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		for _, p := range plants {
			p.in(t, path, text)
		}
	}
	end(t, n)
	log := o.Stderr.(*logBuffer).String()
	for _, want := range []string{`"level":"debug"`, "forged", "revoked", "kms"} {
		if !strings.Contains(strings.ToLower(log), want) {
			t.Errorf("the log has no %s: it does not tell what this test looks at", want)
		}
	}
	for _, p := range plants {
		p.in(t, "log", []byte(log))
	}
}

// oapTokens sends a token on the other wire, in a frame that is refused.
func (n *Node) oapTokens(t *testing.T, token string) {
	t.Helper()
	c, err := net.Dial("tcp", n.endpoints().OAP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append([]byte("GET "), token...)); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(c)
	plant(t, "tenant's", token).in(t, "answer on OAP/1", text)
}
