// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config/quantity"
)

// Defaults that others refer to. A key that is not in the bundle has the value
// that [Default] gives it.
const (
	DefaultBind     = "0.0.0.0:8080"
	DefaultOAPBind  = "0.0.0.0:34000"
	DefaultDevBind  = "127.0.0.1:8080"
	DefaultDevOAP   = "127.0.0.1:34000"
	DefaultDataDir  = "/var/lib/rustyonions/macronode"
	DefaultKMSRoot  = "keyfile:root.key" // below the data directory
	DefaultAuditKey = "audit"

	DefaultReadHeaderTimeout = 5 * time.Second
	DefaultIdleTimeout       = 60 * time.Second
	DefaultRequestTimeout    = 30 * time.Second
	DefaultStallTimeout      = 10 * time.Second
	DefaultDrainTimeout      = 20 * time.Second
	DefaultMaxConns          = 10000
	DefaultMaxConnsPerIP     = 1000
	DefaultMaxInflight       = 512
	DefaultMaxLongRunning    = 10000

	DefaultCacheBytes   Size = 256 * quantity.MiB
	DefaultReserveBytes Size = 256 * quantity.MiB
	DefaultScrubRate    Size = 16 * quantity.MiB

	DefaultMaxFrameBytes  = 1 << 20
	DefaultChunkBytes     = 64 << 10
	DefaultStreamInflight = 64
	DefaultMaxStreams     = 256
	DefaultPolicyRecord   = 4096
	DefaultCacheTTLMS     = 250

	DefaultMaxObjectBytes  Size = 5 * quantity.GiB
	DefaultMaxBodyBytes    Size = 1 * quantity.MiB
	DefaultDecompressRatio      = 10
	DefaultDecompressBytes Size = 32 * quantity.MiB

	DefaultAuditQueue              = 8192
	DefaultCheckpointInterval      = 200 * time.Millisecond
	DefaultCollapseAbove           = 1000
	DefaultAuditSegmentBytes  Size = 64 * quantity.MiB
	DefaultAuditReserveBytes  Size = 64 * quantity.MiB
	DefaultWitnessInterval         = time.Second
	DefaultWitnessTimeout          = 10 * time.Second

	DefaultMaxMessageBytes   Size = 1 * quantity.MiB
	DefaultMaxBatch               = 100
	DefaultMaxTopics              = 1000
	DefaultMaxNames               = 100000
	DefaultMaxHistory             = 100
	DefaultMaxDepth               = 1000000
	DefaultTopicBytes        Size = 16 * quantity.GiB
	DefaultTopicInFlight          = 100000
	DefaultTopicKeys              = 4000000
	DefaultTenantDepth            = 50000000
	DefaultTenantMail        Size = 64 * quantity.GiB
	DefaultTenantInFlight         = 1000000
	DefaultTenantKeys             = 20000000
	DefaultTopicRetention         = 14 * 24 * time.Hour
	DefaultMaxAttempts            = 5
	DefaultVisibilityTimeout      = 30 * time.Second
	DefaultMaxWait                = 30 * time.Second
	DefaultReplayWindow           = 300 * time.Second
	DefaultDLQRetention           = 14 * 24 * time.Hour

	DefaultPermitsPerCPU      = 4
	DefaultTraceSample        = 10000 // 1 %
	DefaultAmnesiaMemory Size = 256 * quantity.MiB
	DefaultTorControl         = "127.0.0.1:9051"
)

// Default returns the config of a bundle that says nothing. It is complete but
// for the keys that a bundle must have.
func Default() Config {
	permits := Facet{Permits: Permits{N: DefaultPermitsPerCPU, PerCPU: true}}
	return Config{
		Server: Server{
			Bind:              DefaultBind,
			TLS:               TLS{ClientAuth: "none", PQ: "hybrid"},
			ReadHeaderTimeout: DefaultReadHeaderTimeout,
			IdleTimeout:       DefaultIdleTimeout,
			RequestTimeout:    DefaultRequestTimeout,
			StallTimeout:      DefaultStallTimeout,
			MaxConns:          DefaultMaxConns,
			MaxConnsPerIP:     DefaultMaxConnsPerIP,
			MaxInflight:       DefaultMaxInflight,
			MaxLongRunning:    DefaultMaxLongRunning,
			DrainTimeout:      DefaultDrainTimeout,
		},
		Data: Data{
			Dir: DefaultDataDir, Metadata: "embedded", Objects: "embedded",
			CacheBytes: DefaultCacheBytes, ReserveBytes: DefaultReserveBytes,
			Collect: true, ScrubRate: DefaultScrubRate,
		},
		Readiness: Readiness{RequiredServices: []string{"svc-gateway", "svc-storage", "ron-auth", "ron-policy", "ron-kms"}},
		OAP: OAP{
			Bind: DefaultOAPBind, MaxFrameBytes: DefaultMaxFrameBytes, ChunkBytes: DefaultChunkBytes,
			MaxInflight: DefaultStreamInflight, MaxStreams: DefaultMaxStreams, FetchOnMiss: true,
		},
		Policy: Policy{DenyByDefault: true, CacheTTLMS: DefaultCacheTTLMS, Record: DefaultPolicyRecord},
		Limits: Limits{
			MaxObjectBytes: DefaultMaxObjectBytes, MaxBodyBytes: DefaultMaxBodyBytes,
			DecompressRatio: DefaultDecompressRatio, DecompressBytes: DefaultDecompressBytes,
		},
		KMS: KMS{Root: DefaultKMSRoot},
		Audit: Audit{
			Key: bundle.Ref{Kind: bundle.RefKey, Name: DefaultAuditKey}, QueueRecords: DefaultAuditQueue,
			CheckpointInterval: DefaultCheckpointInterval, CollapseAbove: DefaultCollapseAbove,
			SegmentBytes: DefaultAuditSegmentBytes, ReserveBytes: DefaultAuditReserveBytes,
			WitnessInterval: DefaultWitnessInterval, WitnessTimeout: DefaultWitnessTimeout,
		},
		Mailbox: Mailbox{
			MaxMessageBytes: DefaultMaxMessageBytes, MaxBatch: DefaultMaxBatch, MaxTopics: DefaultMaxTopics,
			MaxDepth: DefaultMaxDepth, MaxBytes: DefaultTopicBytes, MaxInFlight: DefaultTopicInFlight, MaxKeys: DefaultTopicKeys,
			TenantMaxDepth: DefaultTenantDepth, TenantMaxBytes: DefaultTenantMail, TenantMaxInFlight: DefaultTenantInFlight, TenantMaxKeys: DefaultTenantKeys,
			Retention: DefaultTopicRetention, MaxAttempts: DefaultMaxAttempts, VisibilityTimeout: DefaultVisibilityTimeout,
			MaxWait: DefaultMaxWait, ReplayWindow: DefaultReplayWindow, DLQRetention: DefaultDLQRetention,
		},
		Naming: Naming{MaxNames: DefaultMaxNames, MaxHistory: DefaultMaxHistory},
		Facets: Facets{Graph: Graph{permits.Permits, 10_000_000}, Feed: Feed{permits.Permits, 1000, 1_000_000, 10_000},
			Search: permits, Media: permits},
		Telemetry: Telemetry{TraceSample: DefaultTraceSample, LogLevel: "info", LogFormat: "auto"},
		ZK:        ZK{Kind: "NoOp", Curve: "bn254", DomainSep: "domain:policy"},
		Amnesia:   Amnesia{MemoryBytes: DefaultAmnesiaMemory},
		Tor:       Tor{Control: DefaultTorControl},
	}
}
