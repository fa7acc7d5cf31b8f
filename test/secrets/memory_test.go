// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !race

// The race detector's shadow of the memory is too large to take an image of.

package secrets

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/node"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/svc/access"
)

// childEnv makes the test binary a child: "prepare" or "run".
const childEnv = "MACRONODE_SECRETS_CHILD"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "prepare":
		err = prepare()
	case "run":
		err = runNode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// plan is what the parent tells its children; keys are raw.
type plan struct {
	Dir  string
	Keys map[string][]byte
}

// The keys that are planted. Those of the first group are rotated out, those of
// the second are in use to the end.
const (
	oldMint, oldTLS, oldWrap = "old minting key", "old TLS key", "old wrapping key"
	mintKey, tlsKey, wrapKey = "minting key", "TLS key", "wrapping key"
	rootKey                  = "root key"
)

// prepare makes a data directory with the planted keys, in a process of its own
// as "macronode init" and "macronode kms import" are.
func prepare() error {
	var p plan
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	ctx := context.Background()
	r, err := provision.Init(ctx, provision.Options{Dir: p.Dir, HTTP: "127.0.0.1:0", OAP: "127.0.0.1:0", Tenant: "acme"})
	if err != nil {
		return err
	}
	keys, err := datadir.OpenKeys(p.Dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	mint := "mint-" + strings.ToLower(r.Tenant)
	chain, err := certify(p.Keys[tlsKey])
	if err != nil {
		return err
	}
	for _, k := range []struct{ secret, name, alg, purpose string }{
		{oldMint, mint, "mac-256", "mint"}, {mintKey, mint, "mac-256", "mint"},
		{oldTLS, "tls", "ecdsa-p256", "tls"}, {tlsKey, "tls", "ecdsa-p256", "tls"},
		{oldWrap, "vault", "aes-256-gcm", "app"}, {wrapKey, "vault", "aes-256-gcm", "app"},
	} {
		spec, err := datadir.KeySpec(k.name, k.alg, k.purpose)
		if err != nil {
			return err
		}
		if _, err := keys.Import(ctx, spec, p.Keys[k.secret]); err != nil {
			return fmt.Errorf("%s: %w", k.secret, err)
		}
	}
	if _, err := keys.PutObject(ctx, datadir.ObjCertChain, 0, chain); err != nil {
		return err
	}
	return keys.Close()
}

// certify is a certificate of a key for itself.
func certify(scalar []byte) ([]byte, error) {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// runNode runs a node and does what it is told, a word a line: "core" makes it
// fit for an image, "stop" stops the node, the end of input ends the process.
func runNode() error {
	var p plan
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return err
	}
	clear(line)
	o := node.Options{Dir: p.Dir, Bundle: filepath.Join(p.Dir, datadir.BundleName)}
	o.Overrides.Endpoints.Value = filepath.Join(p.Dir, datadir.EndpointsName)
	n, err := node.Start(context.Background(), o)
	if err != nil {
		return err
	}
	fmt.Println("started")
	for {
		word, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch strings.TrimSpace(word) {
		case "stop":
			if err := n.Stop(context.Background()); err != nil {
				return err
			}
			n = nil
		case "core":
			// What is dropped is wiped by the collection after.
			runtime.GC()
			runtime.GC()
		}
		fmt.Println("done")
	}
}

// child is a process of the test binary.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log *os.File
}

func begin(t *testing.T, role string, p plan) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+role, "GOCOVERDIR="+t.TempDir())
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if c.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait(); _ = c.log.Close() })
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Write(append(text, '\n')); err != nil {
		t.Fatal(err)
	}
	return c
}

// wait reads the child's answer.
func (c *child) wait(want string) {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != want {
		log, _ := os.ReadFile(c.log.Name())
		c.t.Fatalf("the child says %q, %v\n%s", line, err, log)
	}
}

func (c *child) say(word string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, word); err != nil {
		c.t.Fatal(err)
	}
	c.wait("done")
}

// image takes a core image of the child, locked memory included, and searches it.
func (c *child) image(stage string, needles []needle) image {
	c.t.Helper()
	c.say("core")
	file := filepath.Join(c.t.TempDir(), "core")
	pid := c.cmd.Process.Pid
	excluded := excludedRanges(c.t, pid)
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "gdb", "-nx", "-batch", "-p", fmt.Sprint(pid), "-ex", "set use-coredump-filter off",
		"-ex", "set dump-excluded-mappings on", "-ex", "generate-core-file "+file, "-ex", "detach").CombinedOutput()
	if err != nil {
		c.t.Fatalf("gdb: %v\n%s", err, out)
	}
	if _, err := os.Stat(file); err != nil {
		c.t.Fatalf("gdb made no image: %s", out)
	}
	im := search(c.t, file, excluded, needles)
	if err := os.Remove(file); err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("%s: %d MiB searched, %d ranges kept out of dumps", stage, im.bytes>>20, len(excluded))
	return im
}

// judge fails where a secret lies outside locked memory, or in it at a stage
// when it must be gone; held names those that must be there, which shows that
// the search works.
func judge(t *testing.T, stage string, im image, held ...string) {
	t.Helper()
	inLocked, told := map[string]int{}, map[string]int{}
	for _, f := range im.finds {
		if f.locked {
			inLocked[f.secret]++
			continue
		}
		if told[f.secret+f.form]++; told[f.secret+f.form] < 4 {
			t.Errorf("%s: the %s lies in ordinary memory: %s, at %#x", stage, f.secret, f.form, f.addr)
		}
	}
	for _, name := range held {
		if inLocked[name] == 0 {
			t.Errorf("%s: the %s is not in locked memory, where it is used", stage, name)
		}
		delete(inLocked, name)
	}
	for name, n := range inLocked {
		t.Errorf("%s: the %s is still in locked memory, %d times", stage, name, n)
	}
}

// Memory is searched when the node has started, after use, after rotation and
// after the stop. The root key is in none of the images. The others are in locked
// memory alone while they are in use; what was rotated out is nowhere, and after
// the stop nothing is anywhere. The keys that minting keys are derived to lie in
// ordinary memory while they are in use, and nowhere afterwards.
func TestMemory(t *testing.T) {
	debug.SetGCPercent(50) // the images are this process's too
	p := plan{Dir: filepath.Join(t.TempDir(), "data"), Keys: map[string][]byte{}}
	var needles, derived []needle
	for _, name := range []string{oldMint, oldTLS, oldWrap, mintKey, tlsKey, wrapKey} {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		key[0] &= 0x7f // below the order of P-256
		p.Keys[name] = key
		needles = append(needles, forms(name, key)...)
	}
	for _, name := range []string{oldMint, mintKey} {
		k := make([]byte, 32)
		blake3.DeriveKey(k, capability.MintContext, p.Keys[name])
		derived = append(derived, forms("derived "+name, k)...)
	}
	c := begin(t, "prepare", p)
	if err := c.cmd.Wait(); err != nil {
		log, _ := os.ReadFile(c.log.Name())
		t.Fatalf("prepare: %v\n%s", err, log)
	}
	root := readRoot(t, p.Dir)
	needles = append(needles, forms(rootKey, root)...)

	c = begin(t, "run", plan{Dir: p.Dir})
	c.wait("started")
	all := []string{oldMint, oldTLS, oldWrap, mintKey, tlsKey, wrapKey}
	judge(t, "started", c.image("started", needles), all...)

	op := dial(t, p.Dir, datadir.OperatorCapName)
	u := &user{t: t, dir: p.Dir, op: op}
	u.use(20)
	judge(t, "used", c.image("used", needles), all...)

	u.rotate()
	u.use(5)
	im := c.image("rotated", append(needles, derived...))
	inUse := 0
	im.finds = slices.DeleteFunc(im.finds, func(f find) bool {
		if f.secret == "derived "+mintKey { // in ordinary memory while it is used
			inUse++
			return true
		}
		return false
	})
	if inUse == 0 {
		t.Error("rotated: the derived minting key in use is not found: the search does not see derived keys")
	}
	judge(t, "rotated", im, mintKey, tlsKey, wrapKey)

	u.close()
	c.say("stop")
	judge(t, "stopped", c.image("stopped", append(needles, derived...)))

	log, err := os.ReadFile(c.log.Name())
	u.must(err)
	if len(log) == 0 {
		t.Error("the node logged nothing")
	}
	newScanner(append(needles, derived...)).scan(log, func(n needle, at int) {
		t.Errorf("the log has the %s: %s, at %d", n.secret, n.form, at)
	})
}

// readRoot is the root key of a data directory, as raw bytes.
func readRoot(t *testing.T, dir string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, datadir.RootKeyName))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "ronroot1_"))
	if err != nil || len(raw) < 32 {
		t.Fatal("the root key's text", err)
	}
	return raw[:32]
}

func dial(t *testing.T, dir, capability string) *client.Client {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(dir, capability))
	if err != nil {
		t.Fatal(err)
	}
	return dialToken(t, dir, strings.TrimSpace(string(token)))
}

func dialToken(t *testing.T, dir, token string) *client.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, datadir.EndpointsName))
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ HTTP string }
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(e.HTTP, client.Options{Token: token, InsecureTLS: true, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// user drives the node from outside.
type user struct {
	t   *testing.T
	dir string
	op  *client.Client
}

func (u *user) must(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

// use wraps, opens, shakes hands over TLS and shows capabilities.
func (u *user) use(rounds int) {
	u.t.Helper()
	ctx := u.t.Context()
	for range rounds {
		var wrapped struct{ Wrapped []byte }
		u.must(u.op.JSON(ctx, "POST", "/v1/kms/keys/vault/wrap", "", map[string]any{"plaintext": []byte("p")}, &wrapped))
		u.must(u.op.JSON(ctx, "POST", "/v1/kms/keys/vault/unwrap", "", map[string]any{"wrapped": wrapped.Wrapped}, nil))
		minted, err := u.op.Mint(ctx, client.MintRequest{Tenant: "acme"}, "")
		u.must(err)
		tenant := dialToken(u.t, u.dir, minted.Token) // a connection, a handshake
		u.must(tenant.JSON(ctx, "GET", "/v1/objects?limit=1", "", nil, nil))
		tenant.Close()
	}
}

// rotate ends the old versions of all three keys. The minting key has versions
// of before init's, old and current; one rotation puts the old one out.
func (u *user) rotate() {
	u.t.Helper()
	ctx := u.t.Context()
	tenant, err := u.op.Tenant(ctx, "acme")
	u.must(err)
	name := access.MintKeyName(tenant.ID)
	for range 2 {
		u.must(u.op.JSON(ctx, "POST", "/v1/kms/keys/"+name+"/rotate", "", nil, nil))
	}
	u.must(u.op.JSON(ctx, "DELETE", "/v1/kms/keys/vault/versions/1", "", nil, nil))
	u.must(u.op.JSON(ctx, "DELETE", "/v1/kms/keys/tls/versions/2", "", nil, nil))
}

func (u *user) close() { u.op.Close() }
