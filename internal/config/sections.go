// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	"github.com/rustyonions/macronode/bundle"
)

// Audit is the tamper-evident log.
type Audit struct {
	Key                bundle.Ref    `key:"key" form:"kmskey" doc:"Key that signs checkpoints."`
	QueueRecords       int64         `key:"queue_records" min:"64" max:"1048576" unit:"records" apply:"restart" doc:"Records that may wait to be written. A full queue sheds data-access records and refuses admin actions."`
	CheckpointInterval time.Duration `key:"checkpoint_interval" min:"10ms" max:"200ms" doc:"Longest time from a record to the checkpoint that covers it."`
	CollapseAbove      int64         `key:"collapse_above" min:"1" max:"1000000" unit:"refusals a second" doc:"Above this many refusals of one reason, a second's refusals become one record with a count."`
	SegmentBytes       Size          `key:"segment_bytes" min:"1MiB" max:"1GiB" apply:"restart" doc:"Size at which a log segment is closed."`
	ReserveBytes       Size          `key:"reserve_bytes" min:"1MiB" max:"1TiB" apply:"restart" doc:"Disk that only audit may use, so that a full disk does not end the record."`
	Witnesses          []string      `key:"witnesses" form:"witness" doc:"Witnesses (C2SP tlog-witness) that cosign checkpoints: the URL of each, and its verifier keys in note form. Empty: none. At most 16."`
	WitnessQuorum      int64         `key:"witness_quorum" min:"0" max:"16" unit:"witnesses" doc:"How many of them must cosign. 0: all."`
	WitnessInterval    time.Duration `key:"witness_interval" min:"100ms" max:"1h" doc:"Least time between two checkpoints that witnesses are shown."`
	WitnessTimeout     time.Duration `key:"witness_timeout" min:"100ms" max:"10m" doc:"How long a witness may take to answer, and a checkpoint to get its quorum, before that is an alarm."`
	Retain             time.Duration `key:"retain" min:"0s" max:"876000h" doc:"How long records stay in the log. Older ones are archived in DIR/audit/archive under a signed checkpoint, verified there, and then cut off, once all sinks have them. 0s: for ever."`
	Sinks              []string      `key:"sinks" form:"sink" doc:"Where records are forwarded to, each with a cursor of its own: NAME ndjson URL, NAME otlp URL, or NAME file PATH. Behind a URL KMS:obj/NAME may follow, an object with a bearer token. Empty: nowhere. At most 16."`
}

// Mailbox is topics and messages.
type Mailbox struct {
	MaxMessageBytes   Size          `key:"max_message_bytes" min:"1KiB" max:"16MiB" doc:"Greatest message."`
	MaxBatch          int64         `key:"max_batch" min:"1" max:"10000" unit:"messages" doc:"Messages in one send or receive."`
	MaxTopics         int64         `key:"max_topics" min:"1" max:"1000000" unit:"topics" apply:"restart" doc:"Topics a tenant."`
	MaxDepth          int64         `key:"max_depth" min:"1" max:"100000000" unit:"messages" doc:"Messages in a topic, dead ones too; a topic may say otherwise, as of all that follows."`
	MaxBytes          Size          `key:"max_bytes" min:"1MiB" max:"1TiB" doc:"Bytes in a topic, as stored."`
	MaxInFlight       int64         `key:"max_in_flight" min:"1" max:"100000000" unit:"messages" doc:"Messages of a topic that were received and not yet acknowledged."`
	MaxKeys           int64         `key:"max_keys" min:"1" max:"100000000" unit:"keys" doc:"Idempotency keys that a topic remembers at a time."`
	MaxAge            time.Duration `key:"max_age" min:"0s" max:"8760h" doc:"A topic whose oldest message waits longer than this without an ack takes no more; 0s: no bound."`
	TenantMaxDepth    int64         `key:"tenant_max_depth" min:"1" max:"1000000000" unit:"messages" doc:"Messages in all topics of a tenant, dead ones too; a tenant's queue_depth counts those that wait."`
	TenantMaxBytes    Size          `key:"tenant_max_bytes" min:"1MiB" max:"16TiB" doc:"Bytes in all topics of a tenant, as stored."`
	TenantMaxInFlight int64         `key:"tenant_max_in_flight" min:"1" max:"1000000000" unit:"messages" doc:"Messages of all topics of a tenant that were received and not yet acknowledged."`
	TenantMaxKeys     int64         `key:"tenant_max_keys" min:"1" max:"1000000000" unit:"keys" doc:"Idempotency keys that all topics of a tenant remember at a time."`
	Retention         time.Duration `key:"retention" min:"1m" max:"8760h" doc:"How long a message waits in a topic at most."`
	MaxAttempts       int64         `key:"max_attempts" min:"1" max:"1000" unit:"attempts" doc:"Deliveries after which a message goes to the dead-letter queue."`
	VisibilityTimeout time.Duration `key:"visibility_timeout" min:"1s" max:"12h" doc:"How long a received message is hidden from others, unless the receiver says otherwise."`
	MaxWait           time.Duration `key:"max_wait" min:"0s" max:"5m" doc:"Longest long poll."`
	ReplayWindow      time.Duration `key:"replay_window" min:"5m" max:"720h" doc:"How long a repeated idempotency key is recognised."`
	DLQRetention      time.Duration `key:"dlq_retention" min:"1h" max:"8760h" doc:"How long dead letters are kept."`
}

// Naming is names of objects.
type Naming struct {
	MaxNames   int64 `key:"max_names" min:"1" max:"10000000" unit:"names" doc:"Names a tenant."`
	MaxHistory int64 `key:"max_history" min:"1" max:"1000" unit:"versions" doc:"Versions that a name keeps, the current one too."`
}

// Facets are the optional services.
type Facets struct {
	Enable []string `key:"enable" enum:"graph|feed|search|media" doc:"Facets that run."`
	Graph  Graph    `key:"graph" doc:"The graph facet."`
	Feed   Feed     `key:"feed" doc:"The feed facet."`
	Search Facet    `key:"search" doc:"The search facet."`
	Media  Facet    `key:"media" doc:"The media facet."`
}

// Facet is one of them.
type Facet struct {
	Permits Permits `key:"permits" doc:"Calls that may run at a time: a number, or a multiple of the processors like 4xCPU."`
}

// Graph is the graph facet.
type Graph struct {
	Permits  Permits `key:"permits" doc:"Calls that may run at a time: a number, or a multiple of the processors like 4xCPU."`
	MaxEdges int64   `key:"max_edges" min:"1" max:"1000000000" unit:"edges" doc:"Edges a tenant."`
}

// Feed is the feed facet.
type Feed struct {
	Permits    Permits `key:"permits" doc:"Calls that may run at a time: a number, or a multiple of the processors like 4xCPU."`
	MaxEntries int64   `key:"max_entries" min:"10" max:"100000" unit:"posts" doc:"Newest posts that are kept in a timeline, and of an author. Up to an eighth more may be there before the oldest go."`
	MaxPosts   int64   `key:"max_posts" min:"1" max:"1000000000" unit:"posts" doc:"Posts a tenant."`
	MaxPending int64   `key:"max_pending" min:"1" max:"1000000" unit:"posts" doc:"Posts of a tenant that are still on their way to followers; publishing waits for room beyond it."`
}

// Telemetry is logs, traces and metrics.
type Telemetry struct {
	OTLPEndpoint     string `key:"otlp_endpoint" form:"otlp" redact:"yes" apply:"restart" doc:"URL of an OTLP/HTTP collector for traces. Empty: no export."`
	TraceSample      int64  `key:"trace_sample" min:"0" max:"1000000" unit:"per million" apply:"restart" doc:"Share of traces that are exported, decided by the trace id. A caller can keep a trace from being sampled, and cannot raise the share."`
	LogLevel         string `key:"log_level" enum:"debug|info|warn|error" doc:"Least level that is logged."`
	LogFormat        string `key:"log_format" enum:"auto|json|text" apply:"restart" doc:"One JSON object a line, or text. auto: text on a terminal, else JSON."`
	NativeHistograms bool   `key:"native_histograms" apply:"restart" doc:"Expose native histograms beside the classic buckets."`
}

// ZK is proofs that a policy may ask for.
type ZK struct {
	Enabled         bool       `key:"enabled" apply:"restart" doc:"Verify proofs."`
	Kind            string     `key:"kind" enum:"NoOp|groth16|plonk" apply:"restart" doc:"Proof system. NoOp verifies nothing and is refused where enabled is true."`
	Curve           string     `key:"curve" enum:"bn254|bls12-381" apply:"restart" doc:"Curve of the proof system."`
	VerifyingKey    bundle.Ref `key:"verifying_key" form:"kmsobj" apply:"restart" doc:"Verifying key."`
	VerifyingKeyB64 string     `key:"verifying_key_b64" form:"base64" apply:"restart" doc:"Verifying key in place, base64; instead of verifying_key."`
	ParamHashHex    string     `key:"param_hash_hex" form:"hash" apply:"restart" doc:"BLAKE3-256 of the circuit's parameters, 64 hex digits."`
	DomainSep       string     `key:"domain_sep" form:"label" apply:"restart" doc:"Domain separation tag, bound into the public inputs."`
}

// Amnesia is a node that forgets.
type Amnesia struct {
	Enabled     bool `key:"enabled" apply:"restart" doc:"Keep everything in memory and wipe secrets on stop."`
	MemoryBytes Size `key:"memory_bytes" min:"16MiB" max:"1TiB" apply:"restart" doc:"Memory for what would otherwise be on disk."`
}

// Econ is ledger, wallet and rewarder.
type Econ struct {
	EnableLedger   bool `key:"enable_ledger" apply:"restart" doc:"Run the ledger."`
	EnableWallet   bool `key:"enable_wallet" apply:"restart" doc:"Run the wallet. Needs the ledger."`
	EnableRewarder bool `key:"enable_rewarder" apply:"restart" doc:"Run the rewarder. Needs the wallet."`
}

// Tor is onion-service ingress.
type Tor struct {
	Enabled     bool       `key:"enabled" apply:"restart" doc:"Publish an onion service to the gateway."`
	Control     string     `key:"control" form:"control" apply:"restart" doc:"The Tor daemon's control port: HOST:PORT, or unix: and an absolute path."`
	Password    bundle.Ref `key:"control_password" form:"kmsobj" apply:"restart" doc:"Password of the control port. Empty: cookie authentication."`
	ServiceKey  bundle.Ref `key:"service_key" form:"kmskey" apply:"restart" doc:"Key of the onion service."`
	ClientAuth  []string   `key:"client_auth" form:"x25519" apply:"restart" doc:"X25519 public keys, 52 base32 characters each, of clients that may connect. Empty: all."`
	ProofOfWork bool       `key:"pow" apply:"restart" doc:"Ask clients for proof of work under load."`
}
