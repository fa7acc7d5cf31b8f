// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall

import (
	"context"
	"net/netip"
	"time"

	"github.com/rustyonions/macronode"
)

// Gate knows whether the node takes new work.
type Gate interface {
	// Enter counts a call in, or refuses it with Draining or Overload. Control
	// routes always enter. Each Enter that returned nil is paired with a Leave.
	Enter(b *macronode.Binding) error
	Leave(b *macronode.Binding)
	// Ended is closed when drain asks long-running calls to end. After undrain
	// there is a new one.
	Ended() <-chan struct{}
}

// Authenticator finds out who calls.
type Authenticator interface {
	// Authenticate returns the principal and its tenant. A call without a
	// credential is Anonymous, which is no error. It checks the chain and every
	// caveat but rate and max_bytes, which the returned Principal carries to
	// the quota stage. Errors are of the Token kinds, CaveatDenied,
	// TenantMismatch, TenantSuspended or AuthFlood.
	Authenticate(ctx context.Context, c *macronode.Call, b *macronode.Binding, r macronode.Resource) (*macronode.Principal, *macronode.Tenant, error)
}

// PolicyRequest is everything a decision may depend on.
type PolicyRequest struct {
	Principal *macronode.Principal
	Tenant    *macronode.Tenant
	Action    macronode.Action
	Resource  macronode.Resource
	Bytes     int64 // request body length; 0 unknown
	IP        netip.Addr
	TLS       bool
	Subject   string // of the client certificate
	Path      string // the route's pattern
	Method    string
	Service   string
	Time      time.Time
}

// Decision is what policy says. Reasons are ids of the deciding policies.
type Decision struct {
	Allow       bool
	Reasons     []string
	Obligations []macronode.Obligation
}

// Decider answers whether a principal may act. It is deny by default, and any
// evaluation error denies. An error is returned only where there is no policy to
// ask (PolicyUnavailable).
type Decider interface {
	Decide(ctx context.Context, r *PolicyRequest) (Decision, error)
}

// Charge is what the quota stage took for a call, to be settled when it ends.
type Charge struct {
	Tenant *macronode.Tenant
	Bytes  int64 // charged in advance
	Slot   any   // the meter's own
	// Header tells the caller what is left of its rates; nil: it has none.
	Header macronode.Header
	Taken  time.Time
}

// Meter is the quota stage.
type Meter interface {
	// Take charges one call of the given body length (0 unknown) to the
	// tenant's and the capability's buckets and in-flight limits, or refuses
	// with QuotaRate or QuotaInFlight and a RetryAfter.
	Take(now time.Time, t *macronode.Tenant, p *macronode.Principal, b *macronode.Binding, bytes int64) (Charge, error)
	// Settle ends the call: moved is the body bytes that went either way.
	Settle(now time.Time, c Charge, moved int64)
}

// Admission decides whether an admitted tenant's call may run on this node now.
type Admission interface {
	// Admit returns once the call may run, or refuses with Overload and a
	// RetryAfter within 50 ms. length is that of the request's body, 0 unknown.
	// Each place is released once.
	Admit(ctx context.Context, t *macronode.Tenant, b *macronode.Binding, length int64) (Place, error)
}

// Place is what a call holds while it runs. Its methods are for one goroutine at
// a time.
type Place interface {
	// Await says that the call waits for its client from now on, to send or to
	// take bytes, and Resume that it goes on. The time between is the client's.
	Await()
	Resume()
	// Yield gives the place to who waits for one: the call goes on without, waiting
	// for a disk. Calls after the first do nothing.
	Yield()
	// Release ends the call. moved is the body bytes that went either way; ok is
	// whether the call was done, so that its time says something.
	Release(moved int64, ok bool)
}

// Obliger makes obligations hold that must hold before the handler.
type Obliger interface {
	// Oblige handles o or reports that it does not know it (false), in which
	// case another stage must, or the call is refused.
	Oblige(ctx context.Context, a *macronode.Admitted, o macronode.Obligation) (bool, error)
}

// Receipts prove that records are in the audit log.
type Receipts interface {
	// Receipt returns the compact receipt of a durable record (tlog.ParseCompact), once a
	// checkpoint covers it; "" where it would be longer than most.
	Receipt(ctx context.Context, seq uint64, most int) (string, error)
}

// Services tells which services are up and hears of their panics.
type Services interface {
	// Up reports whether the named service is running.
	Up(name string) bool
	// Panicked reports a handler's panic, which the wall contained.
	Panicked(name string, value any, stack []byte)
}
