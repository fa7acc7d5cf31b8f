// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/ops/drillbook"
)

// Name is the service's name.
const Name = "ron-metrics"

// MaxHold bounds how long a drill may keep a service down.
const MaxHold = time.Minute

// Exposer renders the metrics in the format that an Accept header asks for.
type Exposer interface {
	Expose(accept string) (contentType string, body []byte, err error)
}

// Prober answers /readyz. It is asked often and must be quick.
type Prober interface {
	Probe(ctx context.Context) (ready bool, body []byte)
}

// StatusSource describes the node.
type StatusSource interface {
	Status(ctx context.Context) Status
}

// EventSource has the recent kernel events.
type EventSource interface {
	// Each calls f with at most limit events that follow after, oldest first,
	// and returns the number to ask after next and how many were lost between.
	Each(after uint64, limit int, f func(seq uint64, at time.Time, name, service string, attrs map[string]any)) (next, lost uint64)
	// Wait returns nil once an event follows after, or ctx's error.
	Wait(ctx context.Context, after uint64) error
}

// Reloader reads the config bundle again, verifies all of it, then applies all
// of it. A refused bundle changes nothing; its error tells the operator why.
type Reloader interface {
	Reload(ctx context.Context) (Applied, error)
}

// Drainer empties the node of work and takes that back.
type Drainer interface {
	// Drain and Undrain return at once, and false where there is nothing to do.
	Drain() bool
	Undrain() bool
	Progress() (phase string, since time.Time, left int)
}

// Crasher makes a service crash and returns at once.
type Crasher interface {
	Crash(service string, hold time.Duration) error
}

// Documents has what describes the node to programs. The bytes are shared.
type Documents interface {
	OpenAPI() []byte
	Schema(name string) ([]byte, bool)
}

// Config is what the service shows and steers. All but Idem and Spare is required.
type Config struct {
	Metrics   Exposer
	Ready     Prober
	Version   func() []byte // the /version document
	Status    StatusSource
	Events    EventSource
	Reload    Reloader
	Drain     Drainer
	Crash     Crasher
	Documents Documents
	// Shutdown begins to stop the node and returns at once.
	Shutdown func()
	// Drills reports whether the config says drills = true.
	Drills func() bool
	// Idem keeps answers by Idempotency-Key; nil keeps none.
	Idem *idem.Keeper
	// Spare does in memory where Idem cannot: while Away says that the metadata
	// is not there, and for the breakers always. Nil keeps none.
	Spare    *idem.Keeper
	Away     func() bool
	Breakers Breakers
	Why      Explainer
	Book     DrillBook
}

// DrillBook remembers which drills were carried out.
type DrillBook interface {
	// Record returns once the result is durable.
	Record(context.Context, drillbook.Result) (drillbook.Entry, error)
	Entries() []drillbook.Entry
}

// Explainer says why calls were refused.
type Explainer interface {
	// Why returns a document about the refusals with this id, or NotFound.
	Why(corrID string) (any, error)
	// Answer is such a document without content.
	Answer() any
}

// Service implements macronode.Service.
type Service struct{ cfg Config }

var _ macronode.Service = (*Service)(nil)

// New returns the service, or an error that names what the config lacks.
func New(cfg Config) (*Service, error) {
	lacks := cfg.Metrics == nil || cfg.Ready == nil || cfg.Version == nil || cfg.Status == nil || cfg.Events == nil ||
		cfg.Reload == nil || cfg.Drain == nil || cfg.Crash == nil || cfg.Documents == nil || cfg.Shutdown == nil || cfg.Drills == nil ||
		cfg.Away == nil || cfg.Breakers == nil || cfg.Why == nil || cfg.Book == nil
	if lacks {
		return nil, errors.New("ops: the config is incomplete")
	}
	return &Service{cfg: cfg}, nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Serve waits for ctx: the service has nothing of its own to run.
func (s *Service) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready reports whether the metrics can be rendered. It does not render them.
func (s *Service) Ready(context.Context) error { return nil }

// The documents of the admin routes. Times are unix milliseconds.
type (
	// Status is the answer of GET /v1/admin/status.
	Status struct {
		NodeID    string `json:"node_id"`
		State     string `json:"state"` // starting, running, stopping
		SinceMS   int64  `json:"since_ms"`
		StartedMS int64  `json:"started_ms"`
		Ready     bool   `json:"ready"`
		Degraded  bool   `json:"degraded"`
		// Missing names the readiness checks that fail.
		Missing []string `json:"missing"`
		Config  Applied  `json:"config"`
		Drain   Progress `json:"drain"`
		// InFlight counts calls by class: control, core_read, core_write, facet.
		InFlight    map[string]int64 `json:"in_flight"`
		LongRunning int64            `json:"long_running"`
		Admission   Admission        `json:"admission"`
		Services    []ServiceStatus  `json:"services"`
		Breakers    []BreakerStatus  `json:"breakers"`
		Peers       []PeerStatus     `json:"peers"` // by node id
	}

	// PeerStatus is another node that this one wants a session with.
	PeerStatus struct {
		NodeID  string `json:"node_id"`
		Addr    string `json:"addr"`
		Source  string `json:"source"` // what names it: config
		State   string `json:"state"`  // idle, handshake, active, back_off, closed
		SinceMS int64  `json:"since_ms"`
		// Dialled says that this node dialled the session; RTTUS is how long its
		// last ping took.
		Dialled  bool   `json:"dialled"`
		RTTUS    int64  `json:"rtt_us,omitempty"`
		Sessions uint64 `json:"sessions"` // since the start
		Queued   int    `json:"queued"`   // gossip that waits
		// Why is the reason for which there is no session.
		Why string `json:"why,omitempty"`
	}

	// Admission is how many calls may work at once, what that was concluded
	// from, and whether calls are refused.
	Admission struct {
		Limit       int64 `json:"limit"`
		Floor       int64 `json:"floor"`        // the limit is never less
		MaxInflight int64 `json:"max_inflight"` // nor more
		// Cause is why the limit is where it is: growth, processor, latency,
		// max_inflight.
		Cause       string `json:"cause"`
		Working     int64  `json:"working"`      // calls that hold a place
		ClientWaits int64  `json:"client_waits"` // calls inside that wait for their clients
		Queued      int64  `json:"queued"`
		// ProcessorWaitUS is how long work waited for a processor, LatencyUS how
		// long calls took in the node, and BaselineUS how long they take on a
		// quiet one, in the last window under load.
		ProcessorWaitUS int64            `json:"processor_wait_us"`
		LatencyUS       int64            `json:"latency_us"`
		BaselineUS      int64            `json:"baseline_us"`
		Classes         []AdmissionClass `json:"classes"`
		// TopTenant used most lately: TopShare of all that was used, in percent.
		TopTenant string `json:"top_tenant,omitempty"`
		TopShare  int64  `json:"top_share"`
	}

	// AdmissionClass is what happens to the calls of a class.
	AdmissionClass struct {
		Class   string `json:"class"`
		State   string `json:"state"` // open, shedding, recovering
		SinceMS int64  `json:"since_ms"`
		Refused uint64 `json:"refused"` // since the start
		// Cause, Why and Ends are there while the class is not open: what calls
		// were refused for last, what was measured, and what would end it.
		Cause string `json:"cause,omitempty"`
		Why   string `json:"why,omitempty"`
		Ends  string `json:"ends,omitempty"`
	}

	// ServiceStatus is one supervised service.
	ServiceStatus struct {
		Name      string `json:"name"`
		State     string `json:"state"` // running, backing_off, down, …
		SinceMS   int64  `json:"since_ms"`
		Healthy   bool   `json:"healthy"`
		Degraded  bool   `json:"degraded"`
		Restarts  int    `json:"restarts"`
		LastError string `json:"last_error,omitempty"`
	}

	// Applied identifies a config bundle in force.
	Applied struct {
		Version    uint64 `json:"version"`
		BundleHash string `json:"bundle_hash"`
		// RestartRequired names keys whose new values wait for a restart.
		RestartRequired []string `json:"restart_required,omitempty"`
	}

	// Progress is how far a drain is.
	Progress struct {
		Phase   string `json:"phase"` // serving, lame_duck, gate, idle
		SinceMS int64  `json:"since_ms"`
		Left    int    `json:"left"` // calls that are not control
	}

	// Event is one kernel event.
	Event struct {
		Seq     uint64         `json:"seq"`
		TSMS    int64          `json:"ts_ms"`
		Event   string         `json:"event"`
		Service string         `json:"service,omitempty"`
		Attrs   map[string]any `json:"attrs"`
	}

	// EventPage is the answer of GET /v1/admin/events.
	EventPage struct {
		Events []Event `json:"events"`
		Next   uint64  `json:"next"` // to ask after
		Lost   uint64  `json:"lost"` // events forgotten before the first
	}

	// DrillList is the answer of GET /v1/admin/drills.
	DrillList struct {
		Drills []drillbook.Entry `json:"drills"`
	}

	// CrashRequest is the body of the service-crash drill.
	CrashRequest struct {
		Service string `json:"service"`
		// HoldMS is how long the service stays down at least; at most 60000.
		HoldMS int64 `json:"hold_ms,omitempty"`
	}

	// Health is the answer of GET /healthz.
	Health struct {
		OK bool `json:"ok"`
	}

	// Accepted is the answer of routes that begin something.
	Accepted struct {
		Accepted bool `json:"accepted"`
	}
)
