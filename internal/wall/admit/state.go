// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"time"

	"github.com/rustyonions/macronode"
)

// queueClasses are the classes that wait, best first.
const queueClasses = 3

var queueOrder = [queueClasses]macronode.Class{macronode.CoreRead, macronode.CoreWrite, macronode.Facet}

func queueOf(c macronode.Class) int {
	switch c {
	case macronode.CoreWrite:
		return 1
	case macronode.Facet:
		return 2
	default:
		return 0
	}
}

// Cause is why calls are refused.
type Cause uint8

// The causes.
const (
	NoCause        Cause = iota
	CauseMax             // max_inflight calls are inside, clients that are slow included
	CauseTenant          // this tenant holds as many places as one tenant may
	CauseProcessor       // work waits for a processor: the limit was lowered
	CauseLatency         // handlers take longer than on a quiet node: the limit was lowered
	CauseGrowth          // the limit is still rising to what the load needs
	CauseOrder           // facets are shed while core calls are
	numCauses
)

var causeNames = [numCauses]string{"none", "max_inflight", "tenant", "processor", "latency", "growth", "order"}

func (c Cause) String() string { return causeNames[c] }

var causeEnds = [numCauses]string{
	"",
	"calls inside end (slow clients count), or server.max_inflight is raised",
	"the tenant's own calls end; other tenants are not refused",
	"fewer calls come, or the node gets more processor time",
	"fewer calls come, or handlers become as fast again as on a quiet node (disk)",
	"by itself: the limit rises every 10 ms while work does not wait",
	"core calls are no longer shed",
}

// State is what happens to the calls of a class.
type State uint8

// The states.
const (
	Open       State = iota
	Shedding         // calls are being refused
	Recovering       // none was for a while; refusing again is likely
	numStates
)

var stateNames = [numStates]string{"open", "shedding", "recovering"}

func (s State) String() string { return stateNames[s] }

const (
	// shedHold is how long after the last refusal a class counts as shedding.
	shedHold = time.Second
	// recoverHold is how long it then counts as recovering.
	recoverHold = 2 * time.Second
)

// Change is a class's step from one state to another.
type Change struct {
	Class macronode.Class
	State State
	Cause Cause  // of the last refusal; what it was, where the state is Open
	Why   string // measured, for people
}

// class is one class's state. The state follows from when the last refusal was
// and from nothing else, so it cannot stay where it is without one.
type class struct {
	state   State
	since   time.Duration
	last    time.Duration // last refusal
	cause   Cause
	tenant  macronode.TenantID
	label   string
	refused uint64
}

// refuse notes a refusal.
func (k *class) refuse(now time.Duration, why Cause, t *tenant) (changed bool) {
	k.last, k.cause, k.tenant, k.label = now, why, t.id, t.label
	k.refused++
	return k.to(Shedding, now)
}

// pass lets time work.
func (k *class) pass(now time.Duration) (changed bool) {
	switch quiet := now - k.last; {
	case k.state == Open:
		return false
	case quiet >= shedHold+recoverHold:
		return k.to(Open, now)
	case quiet >= shedHold:
		return k.to(Recovering, now)
	}
	return false
}

func (k *class) to(s State, now time.Duration) bool {
	if k.state == s {
		return false
	}
	k.state, k.since = s, now
	return true
}
