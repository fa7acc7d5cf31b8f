// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config/quantity"
)

// Size is a number of bytes; see [quantity.Size].
type Size = quantity.Size

// Permits is how many calls may run at a time; see [quantity.Permits].
type Permits = quantity.Permits

// Config is a decoded config bundle.
type Config struct {
	Meta      Meta      `key:"meta" doc:"What the bundle says of itself."`
	Server    Server    `key:"server" doc:"The HTTP listener, its limits and time-outs, and how the node drains."`
	Data      Data      `key:"data" doc:"Where data lies."`
	Readiness Readiness `key:"readiness" doc:"What must be healthy before the node takes traffic."`
	OAP       OAP       `key:"oap" doc:"The OAP/1 listener and its limits."`
	Policy    Policy    `key:"policy" doc:"Which policy bundle decides requests."`
	Limits    Limits    `key:"limits" doc:"Sizes of what a request may carry."`
	KMS       KMS       `key:"kms" doc:"How the keystore is opened."`
	Audit     Audit     `key:"audit" doc:"The tamper-evident log."`
	Mailbox   Mailbox   `key:"mailbox" doc:"Topics and messages."`
	Naming    Naming    `key:"naming" doc:"Names of objects."`
	Facets    Facets    `key:"facets" doc:"Optional services, the first to be shed under load."`
	Telemetry Telemetry `key:"telemetry" doc:"Logs, traces and metrics."`
	ZK        ZK        `key:"zk" doc:"Proofs that a policy may ask for. Needs a build with -tags zk."`
	Amnesia   Amnesia   `key:"amnesia" doc:"Nothing is ever written to disk. Needs a build with -tags amnesia."`
	Econ      Econ      `key:"econ" doc:"Ledger, wallet and rewarder."`
	Tor       Tor       `key:"tor" doc:"Onion-service ingress through a Tor daemon. Needs a build with -tags arti."`
}

// Meta is what the bundle says of itself.
type Meta struct {
	Version    int64         `key:"version" need:"yes" min:"1" doc:"Grows with every change. A node refuses a lower version, and the same version with another hash."`
	BundleHash bundle.Digest `key:"bundle_hash" need:"yes" doc:"BLAKE3-256 over the RFC 8785 JSON of the document without this key. Written by macronode bundle sign."`
	Signer     bundle.Ref    `key:"signer" need:"yes" form:"kmskey" doc:"The key that signed. It must be a trust anchor of the node; saying so here makes nobody one."`
}

// Server is the HTTP listener.
type Server struct {
	Bind              string        `key:"bind" form:"addr" apply:"rebind" doc:"Address of the HTTP listener. Port 0 takes a free one."`
	AdminBind         string        `key:"admin_bind" form:"addr" apply:"rebind" doc:"Address of a listener of its own for admin routes and console. Empty: they are served on bind."`
	UDS               string        `key:"uds" form:"path" apply:"rebind" doc:"Path of a Unix socket that serves the same routes. Empty: none."`
	UDSAllowUIDs      []int64       `key:"uds_allow_uids" min:"0" max:"4294967294" doc:"User ids that may connect to uds, by the kernel's word. Empty: only the user that the node runs as."`
	TLS               TLS           `key:"tls" doc:"TLS on the HTTP and OAP listeners. Without it, a peer that is not loopback gets only the four probes."`
	ReadHeaderTimeout time.Duration `key:"read_header_timeout" min:"100ms" max:"5m" doc:"Time for a request's header to arrive."`
	IdleTimeout       time.Duration `key:"idle_timeout" min:"1s" max:"1h" doc:"Time that an unused connection is kept."`
	RequestTimeout    time.Duration `key:"request_timeout" min:"100ms" max:"1h" doc:"Deadline of a request. Object streams, long polls, event streams and subscriptions have none."`
	StallTimeout      time.Duration `key:"stall_timeout" min:"100ms" max:"10m" doc:"A transfer that moves no byte for this long is ended."`
	MaxConns          int64         `key:"max_conns" min:"1" max:"1000000" unit:"connections" doc:"Open connections in all."`
	MaxConnsPerIP     int64         `key:"max_conns_per_ip" min:"1" max:"1000000" unit:"connections" doc:"Open connections of one address. At most max_conns."`
	MaxInflight       int64         `key:"max_inflight" min:"1" max:"100000" unit:"requests" doc:"Requests admitted at a time; the adaptive limit stays below it."`
	MaxLongRunning    int64         `key:"max_long_running" min:"1" max:"1000000" unit:"requests" doc:"Watches, long polls and event streams at a time."`
	LameDuck          time.Duration `key:"lame_duck" min:"0s" max:"5m" doc:"How long a draining node still serves while it says that it is leaving."`
	DrainTimeout      time.Duration `key:"drain_timeout" min:"1s" max:"1h" doc:"Deadline of a shutdown; what is still running then is cut, and the exit code is 7."`
	TrustedProxies    []string      `key:"trusted_proxies" form:"cidr" doc:"Networks whose plaintext connections are taken as secure, and whose Forwarded headers are believed."`
	CORSOrigins       []string      `key:"cors_origins" form:"origin" doc:"Web origins whose pages may call the node. Empty: none."`
	Drills            bool          `key:"drills" doc:"Lets a holder of node:drill break things on purpose."`
}

// TLS is the certificate side of both listeners.
type TLS struct {
	Enabled    bool       `key:"enabled" apply:"rebind" doc:"Serve TLS 1.3. Needs kms_key and cert_chain."`
	KMSKey     bundle.Ref `key:"kms_key" form:"kmskey" doc:"Private key."`
	CertChain  bundle.Ref `key:"cert_chain" form:"kmsobj" doc:"Certificate chain, PEM, leaf first."`
	ClientCA   bundle.Ref `key:"client_ca" form:"kmsobj" doc:"Certificates, PEM, that client certificates must chain to."`
	ClientAuth string     `key:"client_auth" enum:"none|optional|require" doc:"Whether clients show a certificate. It adds attributes; by itself it grants nothing."`
	OCSP       bool       `key:"ocsp" doc:"Staple OCSP responses where the chain names a responder and holds the certificate of its issuer. The node connects to that responder."`
	PQ         string     `key:"pq" enum:"off|hybrid|require" doc:"Key exchange X25519MLKEM768: not offered, preferred, or the only one accepted."`
}

// Data is where data lies.
type Data struct {
	Dir          string `key:"dir" form:"path" apply:"restart" doc:"Data directory. --data overrides it."`
	Metadata     string `key:"metadata" form:"metadata" redact:"yes" apply:"restart" doc:"Metadata store: embedded, or a postgres:// DSN held in a KMS object and given by reference."`
	Objects      string `key:"objects" form:"objects" redact:"yes" apply:"restart" doc:"Object store: embedded, or s3://BUCKET?endpoint=URL with credentials=KMS:obj/NAME."`
	CacheBytes   Size   `key:"cache_bytes" min:"1MiB" max:"1TiB" apply:"restart" doc:"Memory for caches: an eighth, at most 64MiB, for blocks of metadata, the rest for verified bytes of objects."`
	ReserveBytes Size   `key:"reserve_bytes" min:"0B" max:"1TiB" doc:"Disk kept free for deletes, audit and recovery: puts are refused with 507 below it."`
	Collect      bool   `key:"collect" apply:"restart" doc:"Give space back in the background: bytes left by crashes, packs that are mostly dead, copies that tenants can share. What is deleted is removed all the same."`
	ScrubRate    Size   `key:"scrub_rate" min:"0B" max:"16GiB" apply:"restart" doc:"Bytes a second that are read in search of damage. 0B: none."`
}

// Readiness is what /readyz waits for.
type Readiness struct {
	RequiredServices []string `key:"required_services" form:"service" doc:"Services that must be healthy for /readyz to answer 200."`
}

// OAP is the OAP/1 listener.
type OAP struct {
	Bind          string `key:"bind" form:"addr" apply:"rebind" doc:"Address of the OAP/1 listener."`
	MaxFrameBytes int64  `key:"max_frame_bytes" min:"8192" max:"1048576" unit:"bytes" doc:"Greatest frame, header included. The protocol's 1 MiB may be lowered, never raised."`
	ChunkBytes    int64  `key:"chunk_bytes" min:"1024" max:"1048576" unit:"bytes" doc:"Greatest payload of a data frame, and the step in which object streams move. At most max_frame_bytes."`
	MaxInflight   int64  `key:"max_inflight" min:"1" max:"128" unit:"frames" doc:"Unacknowledged frames a stream, each way."`
	MaxStreams    int64  `key:"max_streams" min:"1" max:"65536" unit:"streams" doc:"Open streams a connection."`
	Peers         []Peer `key:"peers" doc:"Nodes to hold a session with, each of which must name this one too. At most 64. Needs server.tls.enabled."`
	// AnnounceSecrets empty is no exchange of objects at all: deny by default.
	AnnounceSecrets bundle.Ref `key:"announce_secrets" form:"kmsobj" doc:"Secrets under which objects are announced to peers, and by which peers prove that they may have them: lines of a tenant's id, or * for every other tenant, and 64 hex digits. Nodes that share a tenant have the same. Empty: nothing is announced, fetched or given."`
	FetchOnMiss     bool       `key:"fetch_on_miss" doc:"Ask the peers that announced it for an object that this node does not have. Needs announce_secrets."`
}

// Peer is an overlay peer.
type Peer struct {
	Addr   string `key:"addr" need:"yes" form:"addr" doc:"Address of the peer's OAP/1 listener."`
	NodeID string `key:"node_id" need:"yes" form:"nodeid" doc:"The peer's node_id, as its /version shows it."`
}

// Policy is which policy bundle decides requests.
type Policy struct {
	DenyByDefault bool          `key:"deny_by_default" doc:"Only true is accepted: what no policy permits is denied."`
	CacheTTLMS    int64         `key:"cache_ttl_ms" min:"1" max:"60000" unit:"ms" doc:"How long a decision is kept, and how often the pinned bundle is read again."`
	BundleKMS     bundle.Ref    `key:"bundle_kms" need:"yes" form:"pinnedobj" doc:"The policy bundle, with its version."`
	BundleHash    bundle.Digest `key:"bundle_hash" need:"yes" doc:"Hash of the policy bundle's payload, as macronode policy build prints it."`
	ShadowKMS     bundle.Ref    `key:"shadow_kms" form:"pinnedobj" doc:"A candidate policy bundle, with its version, that is asked beside the one in force and never decides. Empty: none. Needs shadow_hash."`
	ShadowHash    bundle.Digest `key:"shadow_hash" doc:"Hash of the candidate's payload."`
	Record        int64         `key:"record" min:"0" max:"16384" unit:"decisions" doc:"Newest decisions that are kept in memory, without secrets, to be replayed against a candidate. 0: none."`
}

// Limits are sizes of what a request may carry.
type Limits struct {
	MaxObjectBytes  Size  `key:"max_object_bytes" min:"1B" max:"1TiB" doc:"Greatest object."`
	MaxBodyBytes    Size  `key:"max_body_bytes" min:"1KiB" max:"64MiB" doc:"Greatest body of a request that is no object stream."`
	DecompressRatio int64 `key:"decompress_ratio" min:"1" max:"100" unit:"times" doc:"How many times its size a compressed body may expand to."`
	DecompressBytes Size  `key:"decompress_bytes" min:"1KiB" max:"1GiB" doc:"What a compressed body may expand to in all."`
}

// KMS is how the keystore is opened.
type KMS struct {
	Root string `key:"root" form:"root" redact:"yes" apply:"restart" doc:"Root secret of the keystore: keyfile:PATH, passphrase-file:PATH, systemd:NAME, shares:PATH (the public half of a split root: the start waits until enough shares were handed over), or the URL of a key service, hashivault://KEY?addr=https://HOST:PORT&token_file=PATH (Vault's transit engine) or base64key:///PATH, which opens what lies in DIR/root.sealed. A path that is not absolute is below the data directory. The secret itself never stands here, in an argument or in the environment."`
}
