// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import (
	"context"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"
)

// NoLimit marks a limit that does not hold. Zero is a limit of zero: it
// refuses everything. There is no value that means "not configured".
const NoLimit int64 = -1

// Limits that are part of the contract and cannot be raised by config.
const (
	MaxFrameBytes          = 1 << 20 // one OAP/1 frame, header included
	MaxIdempotencyKeyBytes = 128     // visible ASCII
	MaxAuditRecordBytes    = 4096
)

// TenantID names a tenant: 128 bits, written as a ULID. The zero value is no tenant.
type TenantID [16]byte

// String returns the 26-character ULID.
func (t TenantID) String() string { return ulid.ULID(t).String() }

// IsZero reports whether t names no tenant.
func (t TenantID) IsZero() bool { return t == TenantID{} }

// ParseTenantID accepts the canonical ULID form alone.
func ParseTenantID(s string) (TenantID, error) {
	u, err := ulid.ParseStrict(s)
	if err != nil || u.String() != s {
		return TenantID{}, fmt.Errorf("tenant id %q is not a ULID", s)
	}
	return TenantID(u), nil
}

// MarshalText writes the ULID.
func (t TenantID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a ULID.
func (t *TenantID) UnmarshalText(b []byte) error {
	id, err := ParseTenantID(string(b))
	if err != nil {
		return err
	}
	*t = id
	return nil
}

// The built-in tenants. They exist on every node, cannot be deleted, and their
// ids sort before every real ULID.
var (
	// SystemTenant owns the operator's capabilities and no data.
	SystemTenant = TenantID{15: 1}
	// AnonymousTenant is charged for what callers without a capability do.
	AnonymousTenant = TenantID{15: 2}
)

// Labels of the built-in tenants.
const (
	SystemTenantLabel    = "system"
	AnonymousTenantLabel = "anonymous"
)

// Tenant is the isolation and billing boundary. Values are shared snapshots:
// readers must not change them.
type Tenant struct {
	ID        TenantID `json:"id"`
	Label     string   `json:"label"`
	Suspended bool     `json:"suspended"`
	Quota     Quota    `json:"quota"`
}

// Quota is what a tenant may use. NoLimit lifts a limit; zero forbids.
type Quota struct {
	RequestsPerSec int64 `json:"requests_per_s"`
	RequestBurst   int64 `json:"request_burst"`
	BytesPerSec    int64 `json:"bytes_per_s"` // request plus response bytes
	ByteBurst      int64 `json:"byte_burst"`
	InFlight       int64 `json:"in_flight"`
	StoredBytes    int64 `json:"stored_bytes"`
	Objects        int64 `json:"objects"`
	QueueDepth     int64 `json:"queue_depth"`
	// Weight is the tenant's share under contention; 1 is the default share.
	Weight int64 `json:"weight"`
}

// UnlimitedQuota holds nothing back; only the node's own limits remain.
func UnlimitedQuota() Quota {
	return Quota{
		RequestsPerSec: NoLimit, RequestBurst: NoLimit, BytesPerSec: NoLimit, ByteBurst: NoLimit,
		InFlight: NoLimit, StoredBytes: NoLimit, Objects: NoLimit, QueueDepth: NoLimit, Weight: 1,
	}
}

// PrincipalKind says what sort of caller authentication found.
type PrincipalKind uint8

// The kinds of principal. Their names are the entity types of the policy schema.
const (
	Anonymous  PrincipalKind = iota // nobody: no capability was shown
	Capability                      // the bearer of a verified capability
	PeerNode                        // another node, known by its certificate
)

func (k PrincipalKind) String() string {
	switch k {
	case Capability:
		return "Capability"
	case PeerNode:
		return "Peer"
	default:
		return "Anonymous"
	}
}

// CapID names one link of a capability's chain: revoking it kills that link and
// everything narrowed from it.
type CapID [16]byte

// String returns 32 lower-case hex digits.
func (c CapID) String() string { return fmt.Sprintf("%x", c[:]) }

// Rate is a token bucket: PerSec tokens a second, Burst at most.
type Rate struct {
	Key    [32]byte // names the bucket; equal keys share it
	PerSec int64
	Burst  int64
}

// Principal is who acts, after authentication. Values may be shared between
// calls: readers must not change them.
type Principal struct {
	Kind   PrincipalKind
	Tenant TenantID
	RootID CapID  // id of the capability as minted
	LeafID CapID  // id of the capability as presented
	Node   string // node_id, for a PeerNode
	// MaxBytes is the smallest max_bytes caveat: request plus response bytes
	// of one call; NoLimit where there is none.
	MaxBytes int64
	// Rates are the capability's rate caveats.
	Rates []Rate
	// Expires is the earliest exp caveat in unix seconds; 0 where there is
	// none. Long-running calls end then.
	Expires int64
}

// Op names one routed operation ("object.put"); it is the operationId in /openapi.json.
type Op string

// Action is the verb that policy and caveats speak of ("object:put").
type Action string

// ResourceKind is the sort of thing acted on; its String is the entity type of the policy schema.
type ResourceKind uint8

// The kinds of resource.
const (
	NodeResource ResourceKind = iota
	ObjectResource
	NameResource
	TopicResource
	KeyResource
	AccountResource
	FacetResource
)

var resourceKinds = [...]struct{ entity, prefix string }{
	NodeResource:    {"Node", "node"},
	ObjectResource:  {"Object", "object"},
	NameResource:    {"Name", "name"},
	TopicResource:   {"Topic", "topic"},
	KeyResource:     {"Key", "key"},
	AccountResource: {"Account", "account"},
	FacetResource:   {"Facet", "facet"},
}

func (k ResourceKind) String() string { return resourceKinds[k].entity }

// Resource is the thing acted on, always within the caller's tenant except on
// the operator's routes. An empty ID is the whole collection.
type Resource struct {
	Kind ResourceKind
	ID   string
}

// String is the form that resource caveats match: "object/b3:…", "topic/jobs",
// "object/" for the collection.
func (r Resource) String() string { return resourceKinds[r.Kind].prefix + "/" + r.ID }

// Prefix is the kind's word in a resource string, without the slash.
func (k ResourceKind) Prefix() string { return resourceKinds[k].prefix }

// Class fixes the shedding order: facets first, then core writes, then core
// reads; control never.
type Class uint8

// The classes, in the order in which they are kept.
const (
	Control Class = iota
	CoreRead
	CoreWrite
	Facet
	NumClasses = 4
)

func (c Class) String() string {
	return [...]string{"control", "core_read", "core_write", "facet"}[c]
}

// AuditMode says when a route's own record is written. Refusals are recorded
// on every route.
type AuditMode uint8

const (
	// AuditRefusals records refusals only.
	AuditRefusals AuditMode = iota
	// AuditAfter records the outcome through the bounded queue.
	AuditAfter
	// AuditBefore keeps a place in the queue before the handler runs; without
	// a place there is no action, and the record is durable before the answer.
	AuditBefore
)

// BodyNone, as a Binding's MaxBody, refuses any body. BodyObject is the
// object limit of the config; BodyDefault is its max_body_bytes.
const (
	BodyNone    int64 = 0
	BodyDefault int64 = -1
	BodyObject  int64 = -2
	BodyFrame   int64 = -3 // [oap] max_frame_bytes
)

// The families of operations on OAP/1: values of app_proto_id.
const (
	AppControl  uint16 = 0 // the connection itself: HELLO, PING, ACK, GOAWAY
	AppObject   uint16 = 1
	AppName     uint16 = 2
	AppMailbox  uint16 = 3
	AppRegistry uint16 = 4
	AppOverlay  uint16 = 5 // between nodes
	AppAudit    uint16 = 6
	AppIndex    uint16 = 7 // and search
	AppKMS      uint16 = 8
	AppAccess   uint16 = 9  // tenants, capabilities, revocations
	AppNode     uint16 = 10 // probes, documents of the API, operators' routes
	AppFacet    uint16 = 11 // graph, feed, media
)

// Binding is a route's shape on the wires: data, no code. Listeners and
// documents see bindings; only the wall sees handlers.
type Binding struct {
	Op      Op
	Service string // owner's name, a metric label
	Method  string
	Pattern string   // "/o/{addr}"; a last "{rest...}" takes the remaining path
	Aliases []string // further "METHOD /pattern" forms of the same op
	OAP     uint16   // app_proto_id; 0: not on OAP/1
	Action  Action   // "" on public routes alone
	// Resource and ResourceArg say what is acted on: the argument (path or
	// query) holds the ID. Without ResourceArg it is ResourceID, and where that is
	// empty the collection.
	Resource    ResourceKind
	ResourceArg string
	ResourceID  string
	Class       Class
	Cost        int64 // work units charged on admission; 0 counts as 1
	MaxBody     int64 // bytes, or one of the Body constants
	Public      bool  // skips auth and policy: the four probes alone
	PlainOK     bool  // served to plaintext peers that are not loopback
	LongRunning bool  // no request deadline, own in-flight limit, ended by drain
	Streaming   bool  // no request deadline: ended by stall_timeout
	Yields      bool  // its handler calls Yield once it only waits for a disk
	NeedsKey    bool  // refuses a call without Idempotency-Key
	Write       bool  // changes something: takes Idempotency-Key
	Audit       AuditMode
	Doc         Doc
}

// Label is the route label of metrics, the same for both wires: "GET /o/{addr}".
func (b *Binding) Label() string { return b.Method + " " + b.Pattern }

// Doc is what the OpenAPI document says of a route.
type Doc struct {
	Summary  string
	Query    []Param // query arguments
	Headers  []Param // request headers that matter
	Request  any     // a value of the JSON body's type; nil: none or raw bytes
	Response any     // a value of the JSON answer's type; nil: none or raw bytes
	// RequestType and ResponseType are media types; empty: application/json
	// where Request or Response is set.
	RequestType  string
	ResponseType string
	Status       []int  // success codes; empty: 200
	Kinds        []Kind // refusals worth naming beyond the wall's own
}

// Param documents one query argument or header.
type Param struct {
	Name, Type, Text string // Type: "string", "integer", "boolean"
	Required         bool
}

// Handler does the work of one route. It runs only for admitted calls. The
// reply's Stream, if any, is closed by the wall, sent or not.
type Handler func(ctx context.Context, a *Admitted) (*Reply, error)

// Route is a binding with its handler.
type Route struct {
	Binding
	Handler Handler
}

// Service is one supervised part of the node.
//
// Serve blocks until ctx ends or the service fails; it returns only once
// everything it started has stopped, and may be called again after it returned.
// A service with nothing to run waits for ctx. Ready is cheap, may be called
// from any goroutine, and returns nil when the service can do its work.
type Service interface {
	Name() string
	Routes() []Route
	Serve(ctx context.Context) error
	Ready(ctx context.Context) error
}

// AuditEvent is what happened, before the audit service gives it its place in
// the log. No token, key, payload or full address may stand in it.
type AuditEvent struct {
	Stream  string         // chain it belongs to: "node", or "tenant/ULID"
	Kind    string         // "object.put", "cap.mint", "refusal"
	Actor   string         // "cap:ROOTID", "anonymous", "node", "peer:NODEID"
	Subject string         // resource string
	Reason  string         // "" for success, else a code
	Attrs   map[string]any // text to text or int64; nil: none
	// Must: of administration or security. Record waits for a place rather than
	// shed it, and it may use the space that is kept for such records.
	Must bool
}

// Auditor keeps audit events.
type Auditor interface {
	// Record queues e without waiting, or, where it must be kept, with. Others may be
	// shed with a count.
	Record(e AuditEvent)
	// Append returns once e is durable, or fails; the caller must then not act.
	Append(ctx context.Context, e AuditEvent) error
}

// MatchResource reports whether the caveat pattern covers resource r, both in
// the form of Resource.String: a pattern covers itself and, at a "/", what lies
// below it; one that ends in "*" covers every string with that prefix.
func MatchResource(pattern, r string) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(r, p)
	}
	if !strings.HasPrefix(r, pattern) {
		return false
	}
	return len(r) == len(pattern) || strings.HasSuffix(pattern, "/") || r[len(pattern)] == '/'
}

// MatchAction reports whether the caveat pattern covers action a: equal, or
// with a last "*" as prefix ("object:*").
func MatchAction(pattern string, a Action) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(string(a), p)
	}
	return pattern == string(a)
}
