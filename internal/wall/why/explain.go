// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package why

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

// The answer of GET /v1/admin/why/{corr_id}. Times are unix milliseconds.
type (
	// Report is why the calls with one corr_id were refused, newest first.
	Report struct {
		Refusals []Entry `json:"refusals"`
	}

	// Entry is one refusal.
	Entry struct {
		CorrID       string `json:"corr_id"`
		TSMS         int64  `json:"ts_ms"`
		Route        string `json:"route,omitempty"`
		Op           string `json:"op,omitempty"`
		Stage        string `json:"stage"`
		Status       int    `json:"status"`
		Code         string `json:"code"`
		Detail       string `json:"detail,omitempty"`
		RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
		// NotBeforeMS is when it could have been repeated.
		NotBeforeMS int64  `json:"not_before_ms,omitempty"`
		Principal   string `json:"principal,omitempty"` // Capability, Anonymous, Peer
		Tenant      string `json:"tenant,omitempty"`
		TenantLabel string `json:"tenant_label,omitempty"`
		CapRoot     string `json:"cap_root,omitempty"`
		CapLeaf     string `json:"cap_leaf,omitempty"`
		Action      string `json:"action,omitempty"`
		Resource    string `json:"resource,omitempty"`
		Net         string `json:"net,omitempty"` // the address, /24 or /64
		TLS         bool   `json:"tls"`
		Bytes       int64  `json:"bytes"`
		// Policies decided, then.
		Policies []string      `json:"policies,omitempty"`
		Policy   *PolicyAnswer `json:"policy,omitempty"`
		// PassesIf says what would have let it pass.
		PassesIf []string `json:"passes_if"`
	}

	// PolicyAnswer is what the policy in force says of the request now.
	PolicyAnswer struct {
		// Changed: it is another bundle than the one that refused.
		Changed    bool            `json:"changed"`
		BundleHash string          `json:"bundle_hash"` // of the one that refused
		Decision   string          `json:"decision"`
		Summary    string          `json:"summary"`
		Reasons    []rules.RuleRef `json:"reasons"`
		Errors     []rules.Failure `json:"errors"`
		// Nearest is the permit that came nearest to allowing it.
		Nearest *rules.Grant `json:"nearest,omitempty"`
	}
)

func (l *Log) explain(n *noted) Entry {
	info := n.Kind.Info()
	e := Entry{CorrID: n.CorrID, TSMS: n.Time.UnixMilli(), Stage: n.Stage, Status: info.Status, Code: info.Code, Detail: n.Detail,
		TLS: n.TLS, Bytes: n.Bytes, Policies: n.Policies}
	if wait := (&macronode.Error{Kind: n.Kind, RetryAfter: n.RetryAfter}).RetryHint(); wait > 0 {
		e.RetryAfterMS, e.NotBeforeMS = wait.Milliseconds(), n.Time.Add(wait).UnixMilli()
	}
	if n.Net.IsValid() {
		e.Net = n.Net.String() + map[bool]string{true: "/24", false: "/64"}[n.Net.Is4()]
	}
	if b := n.Binding; b != nil {
		e.Route, e.Op, e.Action, e.Resource = b.Label(), string(b.Op), string(b.Action), n.Resource.String()
	}
	if n.Tenant != nil {
		e.Principal, e.Tenant, e.TenantLabel = n.Principal.Kind.String(), n.Tenant.ID.String(), n.Tenant.Label
		if n.Principal.Kind == macronode.Capability {
			e.CapRoot, e.CapLeaf = n.Principal.RootID.String(), n.Principal.LeafID.String()
		}
	}
	if n.Stage == "policy" && n.Tenant != nil && n.Binding != nil && n.Kind != macronode.PolicyUnavailable {
		e.Policy = l.policy(n)
	}
	e.PassesIf = l.remedy(n, e.Policy)
	return e
}

// policy asks the policy in force about the request once more.
func (l *Log) policy(n *noted) *PolicyAnswer {
	set := l.cfg.Policies()
	if set == nil {
		return nil
	}
	ask := wall.PolicyRequest{Principal: &n.Principal, Tenant: n.Tenant, Action: n.Binding.Action, Resource: n.Resource, Bytes: n.Bytes,
		IP: n.Net, TLS: n.TLS, Subject: n.Subject, Path: n.Binding.Pattern, Method: n.Binding.Method, Service: n.Binding.Service, Time: n.Time}
	x := set.Explain(&ask)
	out := &PolicyAnswer{Decision: x.Decision, Summary: x.Summary, Reasons: x.Reasons, Errors: x.Errors, Changed: l.cfg.Pin() != n.pin}
	if n.pin != nil {
		out.BundleHash = "blake3:" + hex.EncodeToString(n.pin[:])
	}
	if x.Decision == rules.Denied.String() {
		if g, ok := set.Nearest(&ask); ok {
			out.Nearest = &g
		}
	}
	return out
}

// remedies says, by kind, what lets a call like it pass.
var remedies = map[macronode.Kind]string{
	macronode.Unauthenticated:   "a capability that covers the action is shown",
	macronode.TokenMalformed:    "the capability is sent whole, as: Authorization: Bearer ron1_…",
	macronode.TokenForged:       "a capability is shown that this node's keys made: this one was changed, is another node's, or its minting key is gone",
	macronode.TokenExpired:      "a capability is shown whose time is not over",
	macronode.TokenNotYetValid:  "it is tried once the capability has begun, or the clocks agree",
	macronode.TokenAudience:     "a capability for this node's node_id is shown",
	macronode.TokenAddress:      "it comes from an address that the capability's ipnets name",
	macronode.TokenClientCert:   "it comes with the client certificate that the capability is bound to",
	macronode.TokenDischarge:    "every third party's discharge is shown, bound to this capability",
	macronode.TokenRevoked:      "a capability is shown that does not descend from a revoked one",
	macronode.AuthFlood:         "the address stops failing: 100 failed authentications a second are let through, 1000 at once",
	macronode.CaveatDenied:      "a capability is shown whose caveats (actions, resources, methods, confine) cover it",
	macronode.TLSRequired:       "it comes over TLS, or through a proxy in server.trusted_proxies",
	macronode.TenantMismatch:    "the capability is the tenant's own",
	macronode.TenantSuspended:   "the tenant is resumed: ronctl tenant resume",
	macronode.PolicyUnavailable: "the policy source can be read again: ronctl node breakers",
	macronode.Draining:          "another node is asked, or the drain is taken back: ronctl node undrain",
	macronode.Unavailable:       "the dependency is back: ronctl node breakers, ronctl node status",
	macronode.FacetDown:         "the facet is back: ronctl node status",
	macronode.DiskFull:          "there is room on the disk above data.reserve_bytes",
	macronode.ObligationFailed:  "what the policy obliges to holds",
	macronode.DeadlineExceeded:  "it is done within server.request_timeout and the caller's own deadline",
	macronode.Timeout:           "the request arrives in time",
}

// remedy says what would have let the call pass.
func (l *Log) remedy(n *noted, p *PolicyAnswer) []string {
	out := []string{}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if p != nil {
		l.policyRemedy(p, say)
	}
	var q macronode.Quota
	if n.Tenant != nil {
		q = n.Tenant.Quota
	}
	switch n.Kind {
	case macronode.Denied:
	case macronode.Unauthenticated:
		say("%s", remedies[n.Kind])
	case macronode.QuotaRate:
		say("it comes %s later, or the limit is higher (%s)", n.RetryAfter.Round(time.Millisecond), rates(q))
	case macronode.QuotaInFlight:
		say("fewer than %d calls of the tenant run at the moment: in_flight", q.InFlight)
	case macronode.QuotaBytes:
		say("the tenant stores less, or its stored_bytes of %d is raised", q.StoredBytes)
	case macronode.QuotaObjects:
		say("the tenant stores fewer objects, or its objects of %d is raised", q.Objects)
	case macronode.QuotaDepth:
		say("the queue is shorter than the tenant's queue_depth of %d", q.QueueDepth)
	case macronode.Overload:
		say("the node has a place: at most %d calls run at once (server.max_inflight), core writes and facets are shed first; asked again after %s",
			l.cfg.Places(), n.wait().Round(time.Millisecond))
	case macronode.TooLarge:
		if n.Binding != nil {
			say("the body is at most %d bytes on this route, and within the capability's max_bytes", l.cfg.MaxBody(n.Binding))
		}
	default:
		if text := remedies[n.Kind]; text != "" {
			say("%s", text)
		}
	}
	return out
}

func (n *noted) wait() time.Duration {
	return (&macronode.Error{Kind: n.Kind, RetryAfter: n.RetryAfter}).RetryHint()
}

func (l *Log) policyRemedy(p *PolicyAnswer, say func(string, ...any)) {
	switch {
	case p.Decision == rules.Allowed.String():
		say("it is tried now: the policy in force allows it")
	case len(p.Errors) > 0:
		say("policy %s evaluates without an error", p.Errors[0].ID)
	case len(p.Reasons) > 0:
		for _, r := range p.Reasons {
			say("policy %s (%s:%d), which forbids it, does not apply", r.ID, r.File, r.Line)
		}
	case p.Nearest == nil:
		say("some policy permits it: none is near")
	}
	if p.Nearest == nil {
		return
	}
	for _, m := range p.Nearest.Misses {
		if m.Has == "" {
			say("policy %s permits it where %s", p.Nearest.ID, m.Wants)
			continue
		}
		say("policy %s permits it for %s; this has %s", p.Nearest.ID, m.Wants, m.Has)
	}
}

// rates are the rate limits of a tenant, in words.
func rates(q macronode.Quota) string {
	text := ""
	for _, r := range []struct {
		what          string
		perSec, burst int64
	}{{"requests_per_s", q.RequestsPerSec, q.RequestBurst}, {"bytes_per_s", q.BytesPerSec, q.ByteBurst}} {
		if r.perSec != macronode.NoLimit {
			text += fmt.Sprintf("%s %d, burst %d; ", r.what, r.perSec, r.burst)
		}
	}
	if text == "" {
		return "the capability's own rate caveat"
	}
	return text + "and the capability's rate caveats, if it has any"
}
