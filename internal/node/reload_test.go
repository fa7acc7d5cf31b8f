// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/inspect"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// production is a node as an operator sets it up, on free ports.
func production(tb testing.TB, tlsMode string) Options {
	tb.Helper()
	r, err := provision.Init(tb.Context(), provision.Options{Dir: tb.TempDir(), HTTP: "127.0.0.1:0", OAP: "127.0.0.1:0", Tenant: "acme", TLS: tlsMode})
	if err != nil {
		tb.Fatal(err)
	}
	return Options{Bundle: r.Bundle, Dir: r.Dir, Stderr: &logBuffer{}}
}

func readBundle(tb testing.TB, o Options) string {
	tb.Helper()
	text, err := os.ReadFile(o.Bundle)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// replace changes the bundle's text, which must hold each old part.
func replace(tb testing.TB, o Options, pairs ...string) {
	tb.Helper()
	text := readBundle(tb, o)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			tb.Fatalf("the bundle does not hold %q:\n%s", pairs[i], text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	write(tb, o.Bundle, text)
}

func sign(tb testing.TB, o Options, bump bool) *datadir.SignedBundle {
	tb.Helper()
	s, err := datadir.SignBundle(o.Bundle, o.Dir, "KMS:key/ops-release", bump, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// edit changes the bundle and signs it with a higher version.
func edit(tb testing.TB, o Options, pairs ...string) *datadir.SignedBundle {
	tb.Helper()
	replace(tb, o, pairs...)
	return sign(tb, o, true)
}

// saved is a bundle and its signature, to be put back.
type saved struct{ text, sig []byte }

func save(tb testing.TB, o Options) (s saved) {
	tb.Helper()
	var err, serr error
	s.text, err = os.ReadFile(o.Bundle)
	s.sig, serr = os.ReadFile(o.Bundle + ".sig")
	if err := errors.Join(err, serr); err != nil {
		tb.Fatal(err)
	}
	return s
}

func (s saved) restore(tb testing.TB, o Options) {
	tb.Helper()
	write(tb, o.Bundle, string(s.text))
	write(tb, o.Bundle+".sig", string(s.sig))
}

// TestReloadRefused: whatever is wrong with a bundle, nothing changes, and
// nothing of it is remembered.
func TestReloadRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	edit(t, o, "[server]\n", "[server]\nmax_inflight = 200\n")
	if a, err := n.Reload(t.Context()); err != nil || a.Version != 2 {
		t.Fatalf("reload: %+v %v", a, err)
	}
	good := save(t, o)
	client := n.tenant(t)
	zeros := "blake3:" + strings.Repeat("0", 64)
	pinned := readBundle(t, o)
	pinned = pinned[strings.LastIndex(pinned, "blake3:"):][:len(zeros)]
	for _, c := range []struct {
		name, wants string
		make        func(t *testing.T)
	}{
		{"an unknown key", "did you mean", func(t *testing.T) { replace(t, o, "bind =", "bnid =") }},
		{"a value out of range", "max_inflight", func(t *testing.T) { replace(t, o, "max_inflight = 200", "max_inflight = 0") }},
		{"not TOML", "macronode.bundle.toml", func(t *testing.T) { write(t, o.Bundle, "[[[") }},
		{"changed after signing", "hash", func(t *testing.T) { replace(t, o, "max_inflight = 200", "max_inflight = 201") }},
		{"no signature", "signature", func(t *testing.T) {
			edit(t, o, "max_inflight = 200", "max_inflight = 201")
			if err := os.Remove(o.Bundle + ".sig"); err != nil {
				t.Fatal(err)
			}
		}},
		{"a signature by another key", "sign", func(t *testing.T) {
			replace(t, o, "max_inflight = 200", "max_inflight = 201")
			if _, err := datadir.SignBundle(o.Bundle, o.Dir, "KMS:key/policy", true, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
		}},
		{"a lower version", "below", func(t *testing.T) { replace(t, o, "version = 2", "version = 1"); sign(t, o, false) }},
		{"the same version, another hash", "another hash", func(t *testing.T) { replace(t, o, "max_inflight = 200", "max_inflight = 201"); sign(t, o, false) }},
		{"a policy that is not the pinned one", "polic", func(t *testing.T) { edit(t, o, "max_inflight = 200", "max_inflight = 201", pinned, zeros) }},
		{"a policy that is not there", "polic", func(t *testing.T) {
			edit(t, o, "max_inflight = 200", "max_inflight = 201", "policy-bundle@v1", "policy-bundle@v9")
		}},
		{"a certificate that is not there", "server.tls", func(t *testing.T) {
			edit(t, o, "max_inflight = 200", "max_inflight = 201", "KMS:obj/cert_chain", "KMS:obj/none")
		}},
		{"a port that is taken", "listen", func(t *testing.T) {
			edit(t, o, "max_inflight = 200", "max_inflight = 201\nadmin_bind = \""+taken.Addr().String()+"\"")
		}},
		{"anchors that others may write", "others may write", func(t *testing.T) {
			edit(t, o, "max_inflight = 200", "max_inflight = 201")
			chmod(t, n.dir.At(datadir.TrustName), 0o666)
		}},
		{"no file", "no such file", func(t *testing.T) {
			if err := os.Remove(o.Bundle); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, remembered, http, oap := n.applied.Load(), appliedFile(t, n), n.httpSet.Addrs(), n.oapSet.Addrs()
			c.make(t)
			defer chmod(t, n.dir.At(datadir.TrustName), 0o600)
			defer good.restore(t, o)
			_, err := n.Reload(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("reload: %v, want an error that speaks of %q", err, c.wants)
			}
			if n.applied.Load() != before || !bytes.Equal(remembered, appliedFile(t, n)) {
				t.Error("the refused bundle is in force or remembered")
			}
			if len(n.httpSet.Addrs()) != len(http) || n.httpSet.Addrs()[endpointHTTP] != http[endpointHTTP] || n.oapSet.Addrs()[endpointOAP] != oap[endpointOAP] {
				t.Errorf("the listeners changed: %v, were %v", n.httpSet.Addrs(), http)
			}
			if _, err := client.List(t.Context(), "", "", 1); err != nil {
				t.Errorf("a call after the refusal: %v", err)
			}
		})
	}
	if a, err := n.Reload(t.Context()); err != nil || a.Version != 2 {
		t.Errorf("the bundle in force, again: %+v %v", a, err)
	}
	end(t, n)
	n = begin(t, o) // what was in force is what a restart takes
	if c := n.config(); n.applied.Load().Version != 2 || c.Server.MaxInflight != 200 {
		t.Errorf("after a restart: version %d, max_inflight %d", n.applied.Load().Version, c.Server.MaxInflight)
	}
	// The refused bundles had version 3: another one may have it still.
	edit(t, o, "max_inflight = 200", "max_inflight = 202")
	if a, err := n.Reload(t.Context()); err != nil || a.Version != 3 {
		t.Errorf("version 3 after a refused version 3: %+v %v", a, err)
	}
}

func chmod(tb testing.TB, path string, mode os.FileMode) {
	tb.Helper()
	if err := os.Chmod(path, mode); err != nil {
		tb.Fatal(err)
	}
}

func appliedFile(tb testing.TB, n *Node) []byte {
	tb.Helper()
	text, err := n.dir.Read(datadir.AppliedName)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestReloadApplies(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	if !strings.HasPrefix(n.endpoints().HTTP, "https://") {
		t.Fatalf("endpoints %+v", n.endpoints())
	}
	ctx := t.Context()
	open := n.tenant(t) // keeps a TLS connection across the reloads
	body := bytes.Repeat([]byte("x"), 5000)
	put, err := open.Put(ctx, bytes.NewReader(body), client.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}

	edit(t, o, "[readiness]\n", "[limits]\nmax_object_bytes = \"1KiB\"\n[telemetry]\nlog_level = \"debug\"\n[readiness]\n", "enabled = true", "enabled = false",
		"\n[oap]", "\n[data]\ncache_bytes = \"2MiB\"\n[oap]")
	a, err := n.Reload(ctx)
	if err != nil || a.Version != 2 {
		t.Fatalf("reload: %+v %v", a, err)
	}
	if !slices.Equal(a.RestartRequired, []string{"data.cache_bytes"}) {
		t.Errorf("restart required for %v", a.RestartRequired)
	}
	if n.level.Level() != slog.LevelDebug {
		t.Errorf("log level %v", n.level.Level())
	}
	if !strings.HasPrefix(n.endpoints().HTTP, "http://") {
		t.Errorf("TLS is off, endpoints %+v", n.endpoints())
	}
	if _, err := n.tenant(t).Put(ctx, bytes.NewReader(append(body, 'y')), client.PutOptions{}); !refused(err, macronode.TooLarge) {
		t.Errorf("an object over the new limit: %v", err)
	}
	var got bytes.Buffer
	if _, err := open.Get(ctx, put.Addr, &got, client.GetOptions{}); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("a connection from before the reload: %v", err)
	}

	edit(t, o, "enabled = false", "enabled = true", "max_object_bytes = \"1KiB\"", "max_object_bytes = \"1MiB\"", "\"svc-storage\", ", "\"svc-storage\", \"ron-ledger\", ")
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := n.tenant(t).Put(ctx, bytes.NewReader(append(body, 'z')), client.PutOptions{}); err != nil {
		t.Errorf("over TLS again, under the raised limit: %v", err)
	}
	has := slices.Contains(parts.ServiceNames(), "ron-ledger")
	poll(t, "readiness to follow required_services", func() bool { ready, _ := n.ready.Probe(ctx); return ready == has })

	edit(t, o, "\"ron-ledger\", ", "")
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	poll(t, "readiness to come back", func() bool { ready, _ := n.ready.Probe(ctx); return ready })
}

// refused reports whether err is a node's refusal of kind k.
func refused(err error, k macronode.Kind) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Reason == k.Info().Reason
}

func TestPolicyChangesLive(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	ctx, c := t.Context(), n.tenant(t)
	put, err := c.Put(ctx, strings.NewReader("what a policy may close off"), client.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	get := func() error { _, err := c.Get(ctx, put.Addr, new(bytes.Buffer), client.GetOptions{}); return err }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	tenants, err := n.operator(t).Tenants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(tenants, func(t client.Tenant) bool { return t.Label == "acme" })
	sources := policy.InitSources(tenants[at].ID)
	delete(sources, "tests.toml")
	sources["closed.cedar"] = []byte("@id(\"closed\")\nforbid (principal, action == Action::\"object:get\", resource);\n")
	payload, _, err := policy.Build(sources, policy.Meta{Version: 2, Issued: n.start, Previous: policyPin(t, o)})
	if err != nil {
		t.Fatal(err)
	}
	// The node holds the directory: it is asked to keep the object.
	_, kept, err := datadir.SignPolicy(ctx, payload, o.Dir, "KMS:key/policy", "policy-bundle@v2", slog.New(slog.DiscardHandler))
	if err != nil || kept.Version != 2 {
		t.Fatalf("install: %+v %v", kept, err)
	}
	if err := get(); err != nil {
		t.Errorf("the new policy is in force before the bundle pins it: %v", err)
	}
	text := readBundle(t, o)
	pinned := text[strings.LastIndex(text, "blake3:"):][:len(policy.Hash(nil))]
	edit(t, o, "policy-bundle@v1", "policy-bundle@v2", pinned, policy.Hash(payload))
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if err := get(); !refused(err, macronode.Denied) {
		t.Errorf("what the new policy forbids: %v", err)
	}
	if _, err := c.List(ctx, "", "", 1); err != nil {
		t.Errorf("what it permits: %v", err)
	}
	// The old policy, pinned again, is an older policy; its content comes back as a
	// new version.
	good := save(t, o)
	edit(t, o, "policy-bundle@v2", "policy-bundle@v1", policy.Hash(payload), pinned)
	if _, err := n.Reload(ctx); err == nil || !strings.Contains(err.Error(), "an older policy") {
		t.Errorf("a step back: %v", err)
	}
	if err := get(); !refused(err, macronode.Denied) {
		t.Errorf("after a refused step back: %v", err)
	}
	good.restore(t, o)
	delete(sources, "closed.cedar")
	pinPolicy(t, o, 3, sources)
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("the old content is back: %v", err)
	}
}

func TestAllowRollback(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	first := save(t, o)
	n := begin(t, o)
	old := n.applied.Load().Applied()
	edit(t, o, "[server]\n", "[server]\nmax_inflight = 200\n")
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	end(t, n)
	first.restore(t, o)
	fails(t, o, macronode.ExitTrust, "--allow-rollback "+old.String())

	o.Overrides.AllowRollback = config.Setting{Value: strings.Replace(old.String(), "1@", "2@", 1), Origin: config.Origin{Kind: config.FromFlag}}
	fails(t, o, macronode.ExitTrust, "another bundle")

	o.Overrides.AllowRollback.Value = old.String()
	n = begin(t, o)
	if !n.applied.Load().RolledBack {
		t.Error("the rollback is not noted")
	}
	end(t, n)
	o.Overrides.AllowRollback = config.Setting{}
	if n = begin(t, o); n.applied.Load().Applied() != old || n.applied.Load().RolledBack {
		t.Errorf("after the rollback %v is in force", n.applied.Load().Applied())
	}
}

// fails starts a node that must refuse with an exit code and a text.
func fails(tb testing.TB, o Options, code int, text string) {
	tb.Helper()
	n, err := Start(tb.Context(), o)
	if err == nil {
		end(tb, n)
		tb.Fatalf("the node started, want exit %d", code)
	}
	if datadir.ExitCode(err) != code || !strings.Contains(err.Error(), text) {
		tb.Errorf("exit %d: %v; want %d and %q", datadir.ExitCode(err), err, code, text)
	}
}

func TestSecondProcess(t *testing.T) {
	o := prepareDev(t, t.TempDir())
	n := begin(t, o)
	_, err := Start(t.Context(), o)
	var held *disk.HeldError
	if !errors.As(err, &held) || datadir.ExitCode(err) != macronode.ExitInUse {
		t.Errorf("a second node on the directory: %v", err)
	}
	if _, err := n.tenant(t).List(t.Context(), "", "", 1); err != nil {
		t.Errorf("the first node after it: %v", err)
	}
}

func TestTenantsLive(t *testing.T) {
	n := beginDev(t)
	ctx, operator, c := t.Context(), n.operator(t), n.tenant(t)
	list := func() error { _, err := c.List(ctx, "", "", 1); return err }
	if err := list(); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.SetSuspended(ctx, devTenant, true); err != nil {
		t.Fatal(err)
	}
	if err := list(); !refused(err, macronode.TenantSuspended) {
		t.Errorf("suspended: %v", err)
	}
	if _, err := operator.SetSuspended(ctx, devTenant, false); err != nil {
		t.Fatal(err)
	}
	if err := list(); err != nil {
		t.Errorf("resumed: %v", err)
	}
	none, one, two := int64(0), int64(1), int64(2)
	if _, err := operator.SetQuota(ctx, devTenant, client.QuotaChange{RequestsPerSec: &none, RequestBurst: &none}); err != nil {
		t.Fatal(err)
	}
	if err := list(); !refused(err, macronode.QuotaRate) {
		t.Errorf("no requests allowed: %v", err)
	}
	unlimited := macronode.NoLimit
	if _, err := operator.SetQuota(ctx, devTenant, client.QuotaChange{RequestsPerSec: &unlimited, RequestBurst: &unlimited, StoredBytes: &two, Objects: &one}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, strings.NewReader("three"), client.PutOptions{}); err == nil {
		t.Error("more than the stored bytes allowed")
	}
	if _, err := c.Put(ctx, strings.NewReader("ok"), client.PutOptions{Addr: b3.Sum([]byte("ok"))}); err != nil {
		t.Errorf("within the quota: %v", err)
	}
}

func TestTrustMode(t *testing.T) {
	o := production(t, provision.TLSNone)
	for mode, ok := range map[os.FileMode]bool{0o666: false, 0o620: false, 0o602: false, 0o600: true} {
		chmod(t, o.Dir+"/"+datadir.TrustName, mode)
		if !ok {
			fails(t, o, macronode.ExitTrust, "others may write")
			continue
		}
		end(t, begin(t, o))
	}
}

func TestInterruptedInit(t *testing.T) {
	dir := t.TempDir()
	// The last step fails: the recovery export has no place to go.
	if _, err := provision.Init(t.Context(), provision.Options{Dir: dir, RecoveryOut: dir + "/none/recovery.key"}); err == nil {
		t.Fatal("an init whose recovery export cannot be written succeeded")
	}
	if _, err := os.Stat(dir + "/" + datadir.IncompleteName); err != nil {
		t.Fatal(err)
	}
	fails(t, Options{Bundle: dir + "/" + datadir.BundleName, Dir: dir}, macronode.ExitConfig, "init did not finish")
	if _, err := provision.Init(t.Context(), provision.Options{Dir: dir}); datadir.ExitCode(err) != macronode.ExitConfig {
		t.Errorf("init again: %v", err)
	}
	if k, err := datadir.OpenKeys(dir, slog.New(slog.DiscardHandler)); err == nil {
		k.Close()
		t.Error("the keys of an interrupted init were opened")
	}
	r, err := inspect.Check(t.Context(), dir+"/"+datadir.BundleName, dir)
	if err != nil || r.ExitCode == macronode.ExitOK {
		t.Errorf("check: %+v %v", r, err)
	}
	// Development mode begins anew by itself.
	n := begin(t, prepareDev(t, dir))
	if n.dir.Exists(datadir.IncompleteName) {
		t.Error("the mark of the interrupted init is still there")
	}
}
