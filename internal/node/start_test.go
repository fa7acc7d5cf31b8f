// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/provision"
)

// TestKeysOfRunningNode: commands ask the node that holds the directory, and
// what they change is there after a restart.
func TestKeysOfRunningNode(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	ctx := t.Context()
	open := func() *datadir.Keys {
		t.Helper()
		k, err := datadir.OpenKeys(o.Dir, slog.New(slog.DiscardHandler))
		if err == nil {
			err = k.Reachable()
		}
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := open()
	spec, err := datadir.KeySpec("webhook", "ed25519", "app")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := k.Create(ctx, spec); err != nil || info.Newest().Version != 1 {
		t.Errorf("create: %+v %v", info, err)
	}
	if info, err := k.Rotate(ctx, "webhook"); err != nil || info.Newest().Version != 2 {
		t.Errorf("rotate: %+v %v", info, err)
	}
	if info, err := k.PutObject(ctx, "thing", 0, []byte("bytes")); err != nil || info.Version != 1 {
		t.Errorf("put: %+v %v", info, err)
	}
	if _, err := k.PutObject(ctx, "thing", 1, []byte("other bytes")); !refused(err, macronode.Conflict) {
		t.Errorf("another version 1: %v", err)
	}
	if _, err := k.Import(ctx, spec, []byte("material")); datadir.ExitCode(err) != macronode.ExitInUse {
		t.Errorf("import beside a node: %v", err)
	}
	if err := datadir.RestoreRoot(o.Dir, nil); datadir.ExitCode(err) != macronode.ExitInUse {
		t.Errorf("restore beside a node: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	end(t, n)
	k = open()
	defer k.Close()
	keys, err := k.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, key := range keys {
		found = found || key.Name == "webhook" && key.Newest().Version == 2
	}
	if !found {
		t.Errorf("the key made through the node is not there: %+v", keys)
	}
}

// TestFailedStart: a start that fails gives back what it took, so that the next
// one succeeds, and leaves no trace of its bundle.
func TestFailedStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := production(t, provision.TLSSelfSigned)
	good := save(t, o)
	edit(t, o, "[oap]\nbind = \"127.0.0.1:0\"", "[oap]\nbind = \""+taken.Addr().String()+"\"")
	fails(t, o, macronode.ExitConfig, "address already in use")
	d := datadir.Dir{Path: o.Dir}
	if _, err := os.Stat(d.At(datadir.AppliedName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a bundle that could not be applied is remembered: %v", err)
	}
	if _, err := os.Stat(d.At(datadir.AdminSocketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the admin socket was left behind: %v", err)
	}
	good.restore(t, o)
	n := begin(t, o)
	if v := n.applied.Load().Version; v != 1 {
		t.Errorf("version %d is in force", v)
	}

	// A root secret that is missing is the config's fault, not a crash.
	end(t, n)
	if err := os.Rename(d.At(datadir.RootKeyName), d.At("away")); err != nil {
		t.Fatal(err)
	}
	fails(t, o, macronode.ExitConfig, "kms.root")
}

// TestFilesOfRun: --endpoints and --operator-cap-out are written once the node
// listens, and the first is gone when it stopped.
func TestFilesOfRun(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	files := t.TempDir()
	set := func(name string) config.Setting {
		return config.Setting{Value: files + "/" + name, Origin: config.Origin{Kind: config.FromFlag, Where: name}}
	}
	o.Overrides.Endpoints, o.Overrides.OperatorCapOut = set("endpoints.json"), set("operator.cap")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	var text []byte
	poll(t, "the endpoints file", func() bool { text, _ = os.ReadFile(files + "/endpoints.json"); return len(text) > 0 })
	if !strings.Contains(string(text), `"http":"https://127.0.0.1:`) {
		t.Errorf("endpoints: %s", text)
	}
	fresh, err := os.ReadFile(files + "/operator.cap")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial("unix://"+o.Dir+"/"+datadir.AdminSocketName, client.Options{Token: strings.TrimSpace(string(fresh))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tenants(t.Context()); err != nil {
		t.Errorf("the fresh operator capability: %v", err)
	}
	c.Close()
	stop()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := os.Stat(files + "/endpoints.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the endpoints file outlives the node: %v", err)
	}
}

// TestReloadUnderLoad: no call fails because a reload runs beside it.
func TestReloadUnderLoad(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	ctx := t.Context()
	put, err := n.tenant(t).Put(ctx, strings.NewReader("read while the config changes"), client.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		c := n.tenant(t)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Get(ctx, put.Addr, new(strings.Builder), client.GetOptions{}); err != nil {
					t.Errorf("a call beside a reload: %v", err)
					return
				}
			}
		})
	}
	limits := []string{"max_inflight = 100\n", "max_inflight = 101\n"}
	edit(t, o, "[server]\n", "[server]\n"+limits[1])
	for i := range 12 {
		if _, err := n.Reload(ctx); err != nil {
			t.Errorf("reload %d: %v", i, err)
		}
		edit(t, o, limits[(i+1)%2], limits[i%2])
	}
	close(stop)
	wg.Wait()
	if got := n.applied.Load().Version; got != 13 {
		t.Errorf("version %d after the reloads, want 13", got)
	}
}

// TestStoppingRefusesReload: a node that stops takes no new config.
func TestStoppingRefusesReload(t *testing.T) {
	n := beginDev(t)
	end(t, n)
	if _, err := n.Reload(t.Context()); macronode.KindOf(err) != macronode.Draining {
		t.Errorf("reload of a stopped node: %v", err)
	}
}
