// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

// advice is what each refusal means to the caller, for the error reference.
var advice = map[Kind]string{
	Internal:            "A fault of the node. The log has the cause under the same `corr_id`. Tell the operator.",
	Malformed:           "The request cannot be read: framing, a header, an address in upper case, an unknown JSON member. Repeating it does not help.",
	Unauthenticated:     "The route needs a capability and none was shown, or what anybody may do does not cover it. Send `Authorization: Bearer TOKEN`.",
	TokenMalformed:      "The text is no capability in its one accepted form. Check that it was copied whole.",
	TokenForged:         "The capability does not verify: another node or key made it, something was removed from it, its key was rotated away, or its tenant is gone.",
	TokenExpired:        "Its `exp` has passed (60 s of clock difference are allowed). Mint a new one.",
	TokenNotYetValid:    "Its `nbf` lies ahead. Wait, or check the clocks.",
	TokenAudience:       "It is bound to another node's `node_id`.",
	TokenAddress:        "It may not be used from this network.",
	TokenClientCert:     "It is bound to a TLS client certificate that was not shown.",
	TokenDischarge:      "A third party's discharge is missing or does not verify.",
	TokenRevoked:        "It, or one it was narrowed from, was revoked.",
	AuthFlood:           "This address failed to authenticate too often. Wait `Retry-After`.",
	Denied:              "The signed policy does not allow this to this caller. `macronode policy explain` says which rule decides.",
	CaveatDenied:        "The capability was narrowed and does not cover this action, resource, method or service.",
	TLSRequired:         "The connection is not encrypted and does not come from this machine. Use TLS.",
	TenantMismatch:      "The request names another tenant than the capability's.",
	TenantSuspended:     "An operator suspended the tenant.",
	NotFound:            "There is no such route, or this tenant has no such thing. Another tenant's things answer the same.",
	MethodNotAllowed:    "The route takes other methods; `Allow` lists them.",
	NotAcceptable:       "The node cannot answer in any type that `Accept` allows.",
	Conflict:            "The state does not allow the change: the name is taken, the thing exists with other properties.",
	IdempotencyRunning:  "The first request with this `Idempotency-Key` is still running. Ask again shortly.",
	LeaseLost:           "The receipt is stale: its lease ended, by time, a nack, a purge, or the ack that it was; the message may be somebody else's by now. Nothing was changed.",
	LengthRequired:      "The route needs `Content-Length`.",
	PreconditionFailed:  "`If-Match` or `If-None-Match` does not hold. Read the present state and decide anew.",
	TooLarge:            "The body exceeds the route's limit, or the capability's or policy's `max_bytes`.",
	DecompressLimit:     "The compressed body expands beyond the allowed ratio or size.",
	HeaderTooLarge:      "The request's header exceeds the limit.",
	UnsupportedMedia:    "The body's type or encoding is not taken here.",
	RangeNotSatisfiable: "No byte of the object lies in the range; `Content-Range` tells the size.",
	BadDigest:           "The bytes do not hash to the address in the request. Nothing was stored.",
	IdempotencyMismatch: "The `Idempotency-Key` was used for another request within its window.",
	Invalid:             "The request is well-formed and not acceptable; `detail` says why.",
	QuotaRate:           "The tenant's, or the capability's, rate is used up. Wait `Retry-After`.",
	QuotaInFlight:       "The tenant has as many calls running as it may, or a topic as many messages that were received and not acknowledged.",
	QuotaBytes:          "The tenant stores as many bytes as it may. Waiting does not help: delete, or ask for more.",
	QuotaObjects:        "The tenant stores as many objects as it may. Waiting does not help: delete, or ask for more.",
	QuotaDepth:          "A topic is as full as it may be (messages, bytes, idempotency keys), or the tenant's topics together, or it has as many topics as it may. The detail says which; `Retry-After` says when there may be room at the rate at which messages leave. Wait for consumers.",
	Timeout:             "The request's bytes did not arrive in time.",
	Unimplemented:       "This node does not do that, or not on this wire.",
	Integrity:           "The stored bytes are damaged and were not served. Putting the object again heals it.",
	Unavailable:         "A part of the node is restarting or away. Wait `Retry-After`.",
	Overload:            "The node sheds load. Wait `Retry-After`.",
	Draining:            "The node is about to stop. Use another, or wait.",
	PolicyUnavailable:   "The policy bundle cannot be read, or has expired: everything is denied until it can.",
	FacetDown:           "An optional service is off, restarting or shed.",
	DeadlineExceeded:    "The request did not end by its deadline. It may have had its effect: repeat it with the same `Idempotency-Key`.",
	DiskFull:            "The disk has no room beyond its reserve. Reads and deletes go on.",
	ObligationFailed:    "Policy allows this under a condition that does not hold, or that this node cannot meet.",
	ClientGone:          "The client went away. Seen in metrics and logs only.",
}

func TestErrorReference(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Errors\n\nGenerated from the code by `make golden`.\n\n" +
		"A refusal is a problem document (`application/problem+json`, RFC 9457), the same on both wires:\n\n" +
		"`{\"type\",\"title\",\"status\",\"detail\",\"instance\",\"code\",\"reason\",\"retryable\",\"retry_after_ms\",\"corr_id\",\"headers\"}`\n\n" +
		"`code` is one of those below; `reason` is the one that `rejected_total{reason}` counts (the code where it is not counted).\n" +
		"`retryable` says whether the same request may succeed later. 429 and 503 that are retryable carry `Retry-After` in whole\nseconds and `retry_after_ms`. `headers`, where there are any, repeats further fields of the refusal (`RateLimit`, `Content-Range`):\nover OAP/1, whose refusals have no head, they are said there alone.\n")
	for k := range NumKinds {
		info := k.Info()
		if advice[k] == "" {
			t.Errorf("%s (%d) has no advice for the reference", info.Code, k)
		}
		retry := "no"
		if info.Retryable {
			retry = "yes"
		}
		reason := info.Reason
		if reason == "" {
			reason = "not counted"
		}
		fmt.Fprintf(&b, "\n## %s\n\n%d · reason %s · retryable: %s · %s\n\n%s\n", info.Code, info.Status, reason, retry, info.Title, advice[k])
	}
	const file = "docs/errors.md"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is not what the code says; run: make golden", file)
	}
}

func TestKindTable(t *testing.T) {
	codes := make(map[string]Kind)
	for k := range NumKinds {
		info := k.Info()
		if info.Status < 400 || info.Status > 599 || info.Code == "" || info.Title == "" {
			t.Errorf("kind %d: %+v", k, info)
		}
		if first, twice := codes[info.Code]; twice && info.Code != "malformed" {
			t.Errorf("kinds %d and %d share code %s", first, k, info.Code)
		}
		codes[info.Code] = k
		if info.Reason != "" && !slices.Contains(Reasons, info.Reason) {
			t.Errorf("%s: reason %q is not in the closed list", info.Code, info.Reason)
		}
		hint := (&Error{Kind: k}).RetryHint()
		if want := info.Retryable && (info.Status == 429 || info.Status == 503); (hint > 0) != want {
			t.Errorf("%s: retry hint %v", info.Code, hint)
		}
	}
}

func TestProblemHidesTheCause(t *testing.T) {
	err := Wrap(Internal, "", errors.New("/secret/path: permission denied"))
	if s := fmt.Sprint(err.Problem("c1")); strings.Contains(s, "secret") {
		t.Errorf("the problem tells the cause: %s", s)
	}
	if !strings.Contains(err.Error(), "secret") {
		t.Error("the log does not have the cause")
	}
	e := Errorf(QuotaRate, "slow down")
	e.RetryAfter = 1499*time.Millisecond + 1 // never less than it takes
	if p := e.Problem("c2"); p.RetryAfterMS != 1500 || p.Status != 429 || p.CorrID != "c2" || p.Type != ErrorReference+"quota_rate" || p.Reason != "quota" {
		t.Errorf("%+v", p)
	}
	e.Header = Header{"Ratelimit": {"x"}}
	if doc, err := json.Marshal(e.Problem("c3")); err != nil || !strings.HasSuffix(string(doc), `"corr_id":"c3","headers":{"Ratelimit":["x"]}}`) {
		t.Errorf("%s, %v", doc, err)
	}
	if KindOf(nil) != NumKinds || KindOf(errors.New("x")) != Internal || KindOf(fmt.Errorf("y: %w", e)) != QuotaRate {
		t.Error("KindOf")
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, resource string
		want              bool
	}{
		{"object/b3:ab", "object/b3:ab", true}, {"object/b3:ab", "object/b3:abc", false}, {"object/b3:ab*", "object/b3:abc", true},
		{"object", "object/b3:ab", true}, {"object", "object/", true}, {"object/", "object/x", true}, {"object/*", "object/", true},
		{"obj", "object/x", false}, {"obj*", "object/x", true}, {"*", "node/", true}, {"topic/jobs", "topic/jobs/1", true}, {"topic/jobs", "topic/jobs2", false},
		{"", "object/x", false},
	} {
		if got := MatchResource(c.pattern, c.resource); got != c.want {
			t.Errorf("%q covers %q: %v", c.pattern, c.resource, got)
		}
	}
	if !MatchAction("object:*", "object:get") || MatchAction("object:*", "name:get") || MatchAction("object:get", "object:getx") || !MatchAction("*", "x:y") {
		t.Error("MatchAction")
	}
}

func TestTenantID(t *testing.T) {
	id := TenantID{1, 2, 3}
	back, err := ParseTenantID(id.String())
	if err != nil || back != id {
		t.Errorf("%v %v", back, err)
	}
	for _, s := range []string{"", "x", strings.ToLower(id.String()), id.String() + "0", "81234567890123456789012345"} {
		if _, err := ParseTenantID(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

// A wait that is known below is told above, whatever is hidden on the way.
func TestWrapKeepsTheWait(t *testing.T) {
	inner := fmt.Errorf("vault: %w", &Error{Kind: Unavailable, RetryAfter: 7 * time.Second})
	if got := Wrap(Unavailable, "the keystore could not be read", inner).RetryHint(); got != 7*time.Second {
		t.Error(got)
	}
	if got := Wrap(Unavailable, "", nil).RetryHint(); got != defaultRetryAfter {
		t.Error(got)
	}
}
