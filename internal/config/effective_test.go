// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/bundle"
)

func checked(t *testing.T, text string) *Loaded {
	t.Helper()
	l, err := Check([]byte(text), fileName, Features{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// none is a source of flags or variables that has none.
func none(string) (string, bool) { return "", false }

func from(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func TestOverrides(t *testing.T) {
	env := map[string]string{
		"MACRONODE_DATA": "/env", "MACRONODE_LOG_FORMAT": "json", "RUST_LOG": "trace", "MACRONODE_PORT": "tcp://10.0.0.1:80", "MACRONODE_TRUST": "",
	}
	o, err := ReadOverrides(from(map[string]string{"data": "/flag", "graceful-timeout": "7s"}), from(env))
	if err != nil {
		t.Fatal(err)
	}
	l := checked(t, minimal+"[telemetry]\nlog_level = \"warn\"\n[server]\nlame_duck = \"9s\"\n")
	if err := l.Override(o); err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.Data.Dir != "/flag" || c.Telemetry.LogFormat != "json" || c.Telemetry.LogLevel != "debug" || c.Server.DrainTimeout != 7*time.Second || c.Server.LameDuck != 0 || o.Trust.Set() {
		t.Errorf("got %+v", c)
	}
	var out bytes.Buffer
	if err := l.PrintText(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`dir = "/flag"                            # flag --data`, `log_format = "json"                      # env MACRONODE_LOG_FORMAT`,
		`log_level = "debug"                      # env RUST_LOG`, `version = 1                              # macronode.bundle.toml:2`,
		`max_conns = 10000                        # default`, "[server.tls]\n", "[facets.graph]\n",
	} {
		if !strings.Contains(out.String(), want+"\n") && !strings.Contains(out.String(), want) {
			t.Errorf("no line %s in\n%s", want, out.String())
		}
	}
	for _, bad := range []map[string]string{
		{"log-level": "trace"}, {"log-format": "xml"}, {"graceful-timeout": "0s"}, {"graceful-timeout": "soon"}, {"data": ""}, {"allow-rollback": "12"}, {"trust": ""},
	} {
		if _, err := ReadOverrides(from(bad), none); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if flags := OverrideFlags(); !slices.Contains(flags, "allow-rollback") || len(flags) != 8 {
		t.Errorf("flags %v", flags)
	}
}

func TestRustLog(t *testing.T) {
	for filter, want := range map[string]string{
		"info": "info", "info,foo=debug": "info", "foo=debug,warn": "warn", "TRACE": "debug", "foo=debug": "", "": "", "off": "error", " error ": "error", "nonsense": "",
	} {
		o, err := ReadOverrides(none, from(map[string]string{"RUST_LOG": filter}))
		if err != nil || o.LogLevel.Value != want {
			t.Errorf("RUST_LOG=%q: level %q, %v, want %q", filter, o.LogLevel.Value, err, want)
		}
	}
	o, err := ReadOverrides(none, from(map[string]string{"RUST_LOG": "info", "MACRONODE_LOG_LEVEL": "error"}))
	if err != nil || o.LogLevel.Value != "error" {
		t.Errorf("level %q, %v: the node's own variable comes first", o.LogLevel.Value, err)
	}
}

// TestPrintReadsBack: printed text is TOML that means the same config.
func TestPrintReadsBack(t *testing.T) {
	l := checked(t, minimal+"[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\nlame_duck = \"1m5s\"\ndrain_timeout = \"50m\"\n[oap]\nmax_streams = 7\n[telemetry]\nlog_level = \"warn\"\n")
	var out bytes.Buffer
	if err := l.PrintText(&out); err != nil {
		t.Fatal(err)
	}
	back, err := Check(out.Bytes(), "printed", Features{})
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(&l.Config, &back.Config); len(d) > 0 {
		t.Errorf("differs: %v", d)
	}
	out.Reset()
	if err := l.PrintJSON(&out); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Version uint64
		Values  []struct {
			Key, Origin string
			Value       any
		}
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil || doc.Version != 1 || len(doc.Values) < 90 {
		t.Errorf("JSON: %v, version %d, %d values", err, doc.Version, len(doc.Values))
	}
}

func TestRedaction(t *testing.T) {
	l := checked(t, minimal)
	l.Config.Data.Metadata = "postgres://u:hunter2@h/db?password=hunter2&sslmode=x"
	l.Config.KMS.Root = "https://hunter2@kms.example/#hunter2"
	l.Config.Data.Objects = "s3://b?credentials=KMS:obj/s3&endpoint=https://s3.example&token=hunter2"
	var text, js bytes.Buffer
	if err := errors.Join(l.PrintText(&text), l.PrintJSON(&js)); err != nil {
		t.Fatal(err)
	}
	def := Default()
	var diff strings.Builder
	for _, d := range Diff(&def, &l.Config) {
		diff.WriteString(d.Old + d.New)
	}
	for _, s := range []string{text.String(), js.String(), diff.String()} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("a secret is shown: %s", s)
		}
		if !strings.Contains(s, "KMS%3Aobj%2Fs3") && !strings.Contains(s, "KMS:obj/s3") {
			t.Error("a reference is no secret")
		}
	}
}

func TestCompare(t *testing.T) {
	a := checked(t, minimal)
	b := checked(t, strings.Replace(minimal, "version = 1", "version = 2", 1)+
		"[server]\nbind = \"127.0.0.1:1\"\nmax_inflight = 9\ntrusted_proxies = []\n[data]\ndir = \"/x\"\n")
	c := Compare(&a.Config, &b.Config)
	if got := strings.Join(c.Live, " ") + "|" + strings.Join(c.Rebind, " ") + "|" + strings.Join(c.Restart, " "); got != "meta.version server.max_inflight|server.bind|data.dir" {
		t.Errorf("got %s", got)
	}
	if c := Compare(&a.Config, &a.Config); c.Live != nil || c.Rebind != nil || c.Restart != nil {
		t.Errorf("nothing changed, got %v", c)
	}
}

func TestGenerate(t *testing.T) {
	hash, err := bundle.ParseDigest(policyHash)
	if err != nil {
		t.Fatal(err)
	}
	o := GenOptions{
		Signer: bundle.Ref{Kind: bundle.RefKey, Name: "ops-release"}, Bind: "127.0.0.1:0", OAPBind: "127.0.0.1:0", Drills: true,
		TLSKey: bundle.Ref{Kind: bundle.RefKey, Name: "tls"}, TLSChain: bundle.Ref{Kind: bundle.RefObject, Name: "cert_chain"},
		DataDir: "/srv/data", RequiredServices: []string{"svc-gateway"}, PolicyHash: hash,
		PolicyBundle: bundle.Ref{Kind: bundle.RefObject, Name: "policy-bundle", Version: 1}, LogLevel: "debug", KMSRoot: "keyfile:/k",
	}
	text, err := Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	trust, signers := release()
	l, err := Load(text, fileName, sign(t, text, signers...), Options{Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if l.Version != 1 || c.Server.Bind != "127.0.0.1:0" || !c.Server.Drills || !c.Server.TLS.Enabled || c.Data.Dir != "/srv/data" || c.Telemetry.LogLevel != "debug" || c.KMS.Root != "keyfile:/k" {
		t.Errorf("got\n%s", text)
	}
	if again, err := Generate(o); err != nil || !bytes.Equal(text, again) {
		t.Error("the same options give other bytes")
	}
	// An edit by hand, signed again with a higher version, keeps every comment.
	edited := bytes.Replace(text, []byte("drills = true"), []byte("drills = false # no more"), 1)
	bumped, err := Seal(edited, l.Version+1, "")
	if err != nil {
		t.Fatal(err)
	}
	after, err := Load(bumped, fileName, sign(t, bumped, signers...), Options{Trust: trust, Applied: l.Applied()})
	if err != nil || after.Version != 2 || after.Config.Server.Drills || !bytes.Contains(bumped, []byte("# no more")) {
		t.Errorf("got %v\n%s", err, bumped)
	}
	if m, err := ReadMeta(edited, fileName); err != nil || m.Version != 1 || m.Hash != l.Hash || m.Document == l.Hash || m.Signer != "KMS:key/ops-release" {
		t.Errorf("ReadMeta = %+v, %v", m, err)
	}
	o.PolicyBundle.Version = 0
	if _, err := Generate(o); err == nil {
		t.Error("a bundle that would be refused was generated")
	}
}
