// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
)

// auditor notes what it is told, or refuses.
type auditor struct {
	mu     sync.Mutex
	events []macronode.AuditEvent
	err    error
}

func (a *auditor) Record(e macronode.AuditEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.Attrs["how"] = "record"
	a.events = append(a.events, e)
}

func (a *auditor) Append(_ context.Context, e macronode.AuditEvent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	e.Attrs["how"] = "append"
	a.events = append(a.events, e)
	return nil
}

func TestAuditAndMetrics(t *testing.T) {
	reg := metrics.New(false)
	s := openOn(t, memDisk(t), kms.Options{Metrics: kms.NewMetrics(reg)})
	a := &auditor{}
	s.SetAuditor(a)
	by := kms.WithActor(ctx, "cap:00ff")
	if _, _, err := s.Create(by, kms.Spec{Name: "k", Alg: kms.Ed25519, Purpose: kms.PurposeApp}); err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign(by, "k", kms.PurposeApp, []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(by, "k", kms.PurposeApp, []byte("other"), sig); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutObject(ctx, "o", 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	want := "kms.create cap:00ff key/k append\nkms.sign cap:00ff key/k append\nkms.verify cap:00ff key/k record\nkms.put_object node key/o append\n"
	got := ""
	for _, e := range a.events {
		got += fmt.Sprintln(e.Kind, e.Actor, e.Subject, e.Attrs["how"])
	}
	if got != want {
		t.Errorf("audit:\n%swant:\n%s", got, want)
	}
	// Where audit cannot keep it, nothing happens.
	a.err = errors.New("audit is full")
	_, err = s.Sign(ctx, "k", kms.PurposeApp, []byte("m"))
	wantKind(t, err, macronode.Unavailable)
	_, _, err = s.Create(ctx, kms.Spec{Name: "k2", Alg: kms.Ed25519, Purpose: kms.PurposeApp})
	wantKind(t, err, macronode.Unavailable)
	_, _, _, err = s.Rotate(ctx, kms.Spec{Name: "k"})
	wantKind(t, err, macronode.Unavailable)
	_, _, err = s.PutObject(ctx, "o", 0, []byte("y"))
	wantKind(t, err, macronode.Unavailable)
	wantKind(t, s.Delete(ctx, "k"), macronode.Unavailable)
	if list, _ := s.List(ctx); len(list) != 1 || len(list[0].Versions) != 1 {
		t.Errorf("it happened all the same: %+v", list)
	}
	_, text, err := reg.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`kms_ops_total{alg="ed25519",op="create",result="ok"} 1`, `kms_ops_total{alg="ed25519",op="create",result="error"} 1`,
		`kms_ops_total{alg="ed25519",op="sign",result="ok"} 1`, `kms_ops_total{alg="ed25519",op="sign",result="error"} 1`, `kms_ops_total{alg="ed25519",op="verify",result="refused"} 1`,
		`kms_ops_total{alg="aes-256-gcm",op="wrap",result="ok"} 0`,
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %s", line)
		}
	}
}

// What is damaged is named and refused; the rest works; a damaged key's name is
// not free.
func TestDamagedRecord(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	create(t, s, "good", kms.Ed25519, kms.PurposeApp)
	create(t, s, "bad", kms.Ed25519, kms.PurposeApp)
	if _, _, err := s.PutObject(ctx, "o", 0, []byte("object")); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	files, _ := f.List(dir)
	for _, name := range files {
		if strings.HasPrefix(name, "key+bad.") || strings.HasPrefix(name, "obj+o@") {
			b, err := f.ReadFile(dir+"/"+name, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.ReplaceFile(dir+"/"+name, b[:len(b)-1], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var logs bytes.Buffer
	s = openOn(t, f, kms.Options{Log: slog.New(slog.NewTextHandler(&logs, nil))})
	if d := s.Damaged(); len(d) != 1 || d["key/bad"] == "" || !strings.Contains(logs.String(), "key/bad") {
		t.Fatalf("%v\n%s", d, logs.String())
	}
	if _, err := s.Sign(ctx, "good", kms.PurposeApp, []byte("x")); err != nil {
		t.Fatal(err)
	}
	_, err := s.Sign(ctx, "bad", kms.PurposeApp, []byte("x"))
	wantKind(t, err, macronode.Integrity)
	_, _, err = s.Create(ctx, kms.Spec{Name: "bad", Alg: kms.Ed25519, Purpose: kms.PurposeApp})
	wantKind(t, err, macronode.Integrity)
	_, _, err = s.Object(kms.Ref{Kind: "obj", Name: "o"})
	wantKind(t, err, macronode.Integrity)
	list, err := s.Objects()
	if err != nil || len(list) != 1 || !list[0].Damaged {
		t.Fatal(list, err)
	}
	if _, _, err := s.PutObject(ctx, "o", 0, []byte("object")); err != nil {
		t.Fatal(err)
	}
	if got, info, err := s.Object(kms.Ref{Kind: "obj", Name: "o"}); err != nil || string(got) != "object" || info.Version != 2 {
		t.Fatal(got, info, err)
	}
	if err := s.Delete(ctx, "bad"); err != nil {
		t.Fatal(err)
	}
	create(t, s, "bad", kms.Ed25519, kms.PurposeApp)
}

// A disk that fails: nothing half-made is used, and a later try works.
func TestFailingDisk(t *testing.T) {
	base := memDisk(t)
	fail := false
	f := base.WithFaults(func(op errorfs.Op) error {
		if fail && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errors.New("disk trouble")
		}
		return nil
	})
	s := openOn(t, f, kms.Options{})
	create(t, s, "k", kms.Ed25519, kms.PurposeApp)
	fail = true
	_, _, _, err := s.Rotate(ctx, kms.Spec{Name: "k"})
	wantKind(t, err, macronode.Unavailable)
	_, _, err = s.Create(ctx, kms.Spec{Name: "k2", Alg: kms.Ed25519, Purpose: kms.PurposeApp})
	wantKind(t, err, macronode.Unavailable)
	_, _, err = s.PutObject(ctx, "o", 0, []byte("x"))
	wantKind(t, err, macronode.Unavailable)
	if sig, err := s.Sign(ctx, "k", kms.PurposeApp, []byte("x")); err != nil || sig.Version != 1 {
		t.Fatal(sig.Version, err)
	}
	fail = false
	if _, n, _, err := s.Rotate(ctx, kms.Spec{Name: "k"}); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	_ = s.Close()
	s = openOn(t, base, kms.Options{})
	if info, err := s.Key("k"); err != nil || len(info.Versions) != 2 {
		t.Fatal(info, err)
	}
	_, err = s.Key("k2")
	wantKind(t, err, macronode.NotFound)
}

// The public document needs neither root nor lock, follows every change, and is
// mended where a crash left it behind.
func TestPublicDocument(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	read := func() *kms.PublicDocument {
		t.Helper()
		b, err := keystore.ReadPublic(f, dir)
		if err != nil {
			t.Fatal(err)
		}
		d, err := kms.ParsePublic(b)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	create(t, s, "node", kms.P256, kms.PurposeNode)
	create(t, s, "mint-x", kms.MAC256, kms.PurposeMint)
	create(t, s, "audit", kms.Ed25519MLDSA44, kms.PurposeAudit)
	id, err := s.NodeID()
	if err != nil || len(id) != 67 {
		t.Fatal(id, err)
	}
	d := read()
	if d.NodeID != id || len(d.Keys) != 2 || d.Key("mint-x") != nil || len(d.Key("audit").Newest().Public) != 2 {
		t.Fatalf("%+v", d)
	}
	for _, k := range d.Keys {
		for _, p := range k.Newest().Public {
			if !strings.HasPrefix(p.SPKIPEM, "-----BEGIN PUBLIC KEY-----\n") {
				t.Errorf("%s: %q", p.KeyID, p.SPKIPEM)
			}
		}
	}
	if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: "audit"}); err != nil {
		t.Fatal(err)
	}
	if len(read().Key("audit").Versions) != 2 {
		t.Fatal("the document did not follow")
	}
	_ = s.Close()
	if err := f.ReplaceFile(dir+"/"+keystore.PublicFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openOn(t, f, kms.Options{})
	if read().NodeID != id {
		t.Fatal("it was not mended")
	}
	if again, _ := s.NodeID(); again != id {
		t.Fatal("the node has another id")
	}
}

// Secrets are in no file, log line, error or formatted value.
func TestSecretsStayInside(t *testing.T) {
	var logs bytes.Buffer
	f := memDisk(t)
	s := openOn(t, f, kms.Options{Log: slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	planted := []byte("planted-secret-of-32-bytes-xxxxx")
	if _, _, err := s.Import(ctx, kms.Spec{Name: "planted", Alg: kms.MAC256, Purpose: kms.PurposeApp}, bytes.Clone(planted)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutObject(ctx, "planted", 0, planted); err != nil {
		t.Fatal(err)
	}
	create(t, s, "ed", kms.Ed25519, kms.PurposeApp)
	secrets := [][]byte{planted, s.SecretOf("ed")}
	var errs []error
	_, err := s.Sign(ctx, "planted", kms.PurposeMint, nil)
	errs = append(errs, err)
	_, _, err = s.Import(ctx, kms.Spec{Name: "p2", Alg: kms.P256, Purpose: kms.PurposeApp}, append([]byte("-----BEGIN "), planted...))
	errs = append(errs, err)
	_, err = s.Unwrap(ctx, "planted", kms.PurposeApp, planted, planted)
	errs = append(errs, err)
	files, _ := f.List(dir)
	var all bytes.Buffer
	_, _ = logs.WriteTo(&all)
	for _, name := range files {
		b, err := f.ReadFile(dir+"/"+name, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for _, err := range errs {
		if err == nil {
			t.Error("an error was expected")
		}
		fmt.Fprintf(&all, "%v %+v %#v", err, err, err)
	}
	list, _ := s.List(ctx)
	fmt.Fprintf(&all, "%+v", list)
	for i, secret := range secrets {
		for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%v", secret)} {
			if strings.Contains(all.String(), form) {
				t.Errorf("secret %d is told", i)
			}
		}
	}
}
