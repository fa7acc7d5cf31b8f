// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package node puts the parts together: it makes data directories, starts the
// services in order behind the wall, reloads and stops them.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/buildinfo"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/lifecycle"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/certs"
	"github.com/rustyonions/macronode/internal/listen/gateway"
	"github.com/rustyonions/macronode/internal/listen/oapd"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/node/auditor"
	"github.com/rustyonions/macronode/internal/node/facets"
	"github.com/rustyonions/macronode/internal/node/fit"
	"github.com/rustyonions/macronode/internal/node/members"
	"github.com/rustyonions/macronode/internal/node/nodekey"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/supervise"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/access/spread"
	"github.com/rustyonions/macronode/internal/svc/index"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/naming"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/svc/overlay"
	"github.com/rustyonions/macronode/internal/svc/registry"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/hot"
	"github.com/rustyonions/macronode/internal/trace"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/admit"
	"github.com/rustyonions/macronode/internal/wall/admit/desk"
	"github.com/rustyonions/macronode/internal/wall/auth"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/shadow"
	"github.com/rustyonions/macronode/internal/wall/quota"
	"github.com/rustyonions/macronode/internal/wall/why"
)

// Options say what to run.
type Options struct {
	Bundle    string // signed config bundle; its signature lies beside it
	Dir       string // data directory; "": the bundle's
	Overrides config.Overrides
	// HTTP and OAP replace the listeners' addresses; development mode alone.
	HTTP, OAP string
	Stdout    io.Writer // what to try next; nil: nothing is printed
	Stderr    io.Writer // log; nil: the process's stderr
	dev       bool
}

// Node is a running node.
type Node struct {
	opts  Options
	dir   datadir.Dir
	start time.Time
	floor []byte

	// undo holds what was started, by name, in order; Stop takes it back.
	undo []step

	level   *slog.LevelVar
	log     *slog.Logger
	metrics *metrics.Registry
	bus     *bus.Bus
	machine *lifecycle.Machine
	tracing *trace.Provider

	keys    *kms.Store
	nodeID  string
	meta    *pebblekv.KV     // to close and steer; kv to use
	objects *fileobj.Objects // the same; bytes to use
	kv      store.KV
	bytes   store.Objects
	journal *journal.Journal // the order in which objects and names change

	breakers *breaker.Registry
	kvAway   *breaker.Breaker
	polAway  *breaker.Breaker
	why      *why.Log
	hot      *hot.Cache

	ops     *ops.Service
	audit   *auditor.Auditor
	access  *access.Service
	authn   *auth.Authenticator
	storage *storage.Service
	naming  *naming.Service
	mailbox *mailbox.Service
	index   *index.Service
	facets  *facets.Set
	// mail is what mailbox works on while it is open, mailAway the breaker before
	// it, reserve what its log leaves of the disk.
	mail     atomic.Pointer[parts.Mail]
	mailAway *breaker.Breaker
	reserve  atomic.Int64
	// elsewhere are the objects of other nodes.
	elsewhere *elsewhere
	// overlay is the sessions with other nodes, identity the key they know it by.
	overlay  *overlay.Service
	identity *nodekey.Key
	book     *spread.Book
	// members is svc-registry, joined to the sessions.
	members *members.Members
	policy  *policy.Service
	idem    *idem.Keeper
	meter   *quota.Meter
	admit   *admit.Controller
	gate    *lifecycle.Gate
	drainer *lifecycle.Drainer
	ready   *lifecycle.Readiness

	services *supervise.Supervisor
	wall     *wall.Wall
	caps     *listen.Caps
	httpSet  *listen.Set
	oapSet   *listen.Set
	gateway  *gateway.Service
	oapd     *oapd.Service
	certs    *certs.Keeper
	open     chan struct{} // closed when calls may come in

	openapi   *api
	policyPin atomic.Pointer[[32]byte]
	required  atomic.Pointer[map[string]bool] // services that readiness needs

	watcher    *shadow.Watcher    // of policy decisions
	policyStep datadir.PolicyStep // of the bundle being applied; under reload, or the start's

	// applied is the config in force.
	applied  atomic.Pointer[config.Loaded]
	reload   sync.Mutex // one reload, or the stop, at a time
	stopping atomic.Bool
	fatal    chan error
	shutdown chan string // who asked to stop
}

// step is one thing that was started.
type step struct {
	name string
	stop func(ctx context.Context) error
}

func (n *Node) onStop(name string, stop func(ctx context.Context) error) {
	n.undo = append(n.undo, step{name, stop})
}

// Start starts a node. It returns once the services run and the listeners
// accept; readiness may follow a moment later. On failure everything that was
// started is stopped again.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := &Node{opts: o, start: time.Now(), fatal: make(chan error, 1), shutdown: make(chan string, 1), open: make(chan struct{})}
	loaded, err := n.readConfig()
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		name string
		run  func(context.Context, *config.Loaded) error
	}{
		{"metrics", n.startMetrics},
		{"data directory", n.lockDirectory},
		{"keys", n.openKeystore},
		{"traces", n.startTracing},
		{"stores", n.openStores},
		{"services", n.makeServices},
		{"policy", n.preparePolicy},
		{"wall", n.buildWall},
		{"listeners", n.makeListeners},
		{"supervisor", n.startServices},
		{"accept", n.accept},
	} {
		if err := s.run(ctx, loaded); err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), loaded.Config.Server.DrainTimeout)
			n.unwind(stop)
			cancel()
			return nil, withStage(s.name, err)
		}
	}
	n.floor = newHeapFloor() // not before: what the start leaves is collected early
	if err := n.machine.To(lifecycle.Running); err != nil {
		return nil, err
	}
	return n, nil
}

// withStage says what was being started, without hiding the exit code.
func withStage(stage string, err error) error {
	var own *datadir.ExitError
	var held *disk.HeldError
	if errors.As(err, &own) || errors.As(err, &held) {
		return err
	}
	return fmt.Errorf("%s: %w", stage, err)
}

// unwind stops what was started, last first.
func (n *Node) unwind(ctx context.Context) error {
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		s := n.undo[i]
		run := func() error { return s.stop(ctx) }
		var err error
		if n.machine != nil {
			err = n.machine.Step("stop "+s.name, run)
		} else {
			err = run()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	n.undo = nil
	return errors.Join(errs...)
}

// startMetrics makes what every other part reports to.
func (n *Node) startMetrics(_ context.Context, l *config.Loaded) error {
	t := &l.Config.Telemetry
	n.metrics = metrics.New(t.NativeHistograms)
	info := buildinfo.Read()
	n.metrics.BuildInfo(info.Semver, info.GitSHA, info.Go)
	n.metrics.ZKVerify() // in every build, so that dashboards find them
	n.bus = bus.New(n.metrics, n.log, nil, []string{busSubscriber})
	n.machine = lifecycle.NewMachine(n.log)
	n.breakers = breaker.NewRegistry(n.metrics, func(c breaker.Change) {
		n.bus.Publish(bus.Breaker(c.Name, c.State.String(), c.Mode.String(), c.Why))
	})
	n.onStop("breakers", n.breakers.Start())
	return nil
}

// startTracing exports spans where the config asks for it.
func (n *Node) startTracing(ctx context.Context, l *config.Loaded) error {
	t := &l.Config.Telemetry
	tracing, err := trace.New(ctx, trace.Config{Endpoint: t.OTLPEndpoint, Sample: float64(t.TraceSample) / 1e6,
		Semver: buildinfo.Read().Semver, NodeID: n.nodeID, Metrics: n.metrics, Log: n.log})
	if err != nil {
		return datadir.Exitf(macronode.ExitConfig, "telemetry.otlp_endpoint: %w", err)
	}
	n.tracing = tracing
	n.onStop("traces", tracing.Shutdown)
	return nil
}

// lockDirectory takes the data directory for this process.
func (n *Node) lockDirectory(context.Context, *config.Loaded) error {
	if n.dir.Exists(datadir.IncompleteName) {
		return datadir.Exitf(macronode.ExitConfig, "%s: an init did not finish here; remove the directory and run init again", n.dir.Path)
	}
	lock, err := n.dir.FS.LockDir(n.dir.Path)
	if err != nil {
		return err
	}
	n.onStop("data directory", func(context.Context) error { return lock.Close() })
	return n.dir.FS.RemoveTemp(n.dir.Path)
}

func (n *Node) openKeystore(ctx context.Context, l *config.Loaded) error {
	n.dir.Unseal = n.dir.Unsealing(ctx, n.log, n.notify)
	keys, err := n.dir.OpenKeystore(l.Config.KMS.Root, kms.Options{Log: n.log, Metrics: kms.NewMetrics(n.metrics)}, false, guard.Keystore(n.breakers))
	if err != nil {
		return err
	}
	n.keys = keys
	keys.GuardChains(func() map[string]string { return datadir.ServedChains(&n.config().Server.TLS) })
	n.onStop("keys", func(context.Context) error { return keys.Close() })
	n.nodeID, err = keys.NodeID()
	return err
}

func (n *Node) openStores(ctx context.Context, l *config.Loaded) error {
	meta, err := parts.OpenMeta(n.dir, l.Config, n.log, n.fail)
	if err != nil {
		return parts.FormatError(err, pebblekv.ErrNewer)
	}
	n.meta = meta
	n.kv, n.kvAway = guard.Metadata(n.breakers, meta)
	n.onStop("metadata", func(context.Context) error { return meta.Close() })
	if n.journal, err = journal.Open(ctx, journal.Config{KV: n.kv}); err != nil {
		return err
	}
	n.objects, err = fileobj.Open(fileobj.Config{FS: n.dir.FS, Dir: n.dir.At(datadir.ObjectsDir), ReserveBytes: int64(l.Config.Data.ReserveBytes), Logger: n.log})
	if err != nil {
		return parts.FormatError(err, fileobj.ErrNewer)
	}
	n.bytes = guard.ObjectStore(n.breakers, n.objects)
	n.onStop("objects", func(context.Context) error { return n.objects.Close() })
	if n.hot, err = hot.New(int64(l.Config.Data.CacheBytes) - parts.MetaCache(&l.Config)); err != nil {
		return fmt.Errorf("data.cache_bytes: %w", err)
	}
	n.onStop("cache", func(context.Context) error { return n.hot.Close() })
	storage.CacheMetrics(n.metrics, n.hot)
	n.diskMetrics()
	return nil
}

// fail ends the process for an error that no restart of a service mends.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default: // the first one counts
	}
}

// makeServices makes the parts that do the work; nothing of them runs yet.
func (n *Node) makeServices(ctx context.Context, l *config.Loaded) error {
	c := &l.Config
	n.audit = auditor.New(auditor.Deps{Dir: n.dir, KV: n.kv, Keys: n.keys, NodeID: n.nodeID, Bus: n.bus, Log: n.log, Metrics: n.metrics, Changed: n.recheck}, c)
	n.onStop("audit", func(context.Context) error { n.audit.Close(); return nil })
	n.keys.SetAuditor(n.audit)
	n.meter = quota.New()
	var stop func(context.Context) error
	n.admit, stop = desk.Start(c.Server.MaxInflight, n.metrics, n.bus)
	n.onStop("admission", stop)
	n.gate = lifecycle.NewGate(n.metrics, parts.ServiceNames(), c.Server.MaxLongRunning)
	var err error
	n.idem = idem.New(idem.Config{KV: n.kv})
	if err := n.makeElsewhere(c); err != nil {
		return err
	}
	if n.storage, err = storage.New(n.storageConfig(c)); err != nil {
		return err
	}
	n.reserve.Store(int64(c.Data.ReserveBytes))
	if err = n.makeNaming(c); err != nil {
		return err
	}
	if err = n.makeMailbox(ctx, c); err != nil {
		return err
	}
	if n.identity, err = nodekey.Open(n.keys); err != nil {
		return err
	}
	if n.members, err = members.New(ctx, registry.Config{KV: n.kv, Audit: n.audit, Idem: n.idem, NodeID: n.nodeID, Key: n.identity, Metrics: registry.NewMetrics(n.metrics), Log: n.log}, n.keys); err != nil {
		return err
	}
	objects := fit.Objects{Storage: n.storage, Elsewhere: n.elsewhere}
	n.index, err = fit.NewIndex(fit.Index{Objects: objects, Naming: n.naming, NodeID: n.nodeID,
		Holders: n.elsewhere.fetcher.Holders, Generation: n.journal.Count, Breakers: n.breakers, Metrics: n.metrics, Log: n.log})
	if err != nil {
		return err
	}
	n.facets, err = facets.New(c, facets.Deps{Breakers: n.breakers, Metrics: n.metrics, Log: n.log, KV: n.kv, Idem: n.idem, Journal: n.journal, Dir: n.dir, Storage: n.storage, Naming: n.naming, Media: fit.NewMedia(objects), Panicked: lateServices{n}.Panicked})
	if err != nil {
		return err
	}
	n.access, err = parts.NewAccess(ctx, n.kv, n.keys, parts.AccessDeps{NodeID: n.nodeID, Audit: n.audit, Storage: n.storage, Naming: n.naming, Mailbox: n.mailbox, Further: []access.Purger{n.facets}, Meter: n.meter, Admit: n.admit, Idem: n.idem, Quota: n.defaultQuota, Told: n.told, Metrics: access.NewMetrics(n.metrics), Log: n.log})
	return err
}
