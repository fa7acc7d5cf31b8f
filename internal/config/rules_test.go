// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const meta = "[meta]\nversion = 1\nbundle_hash = \"" + policyHash + "\"\nsigner = \"KMS:key/ops-release\"\n"
const policy = "[policy]\nbundle_kms = \"KMS:obj/policy-bundle@v1\"\nbundle_hash = \"" + policyHash + "\"\n"
const minimal = meta + policy

const nodeID = "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

// TestRules: what no key is guilty of alone.
func TestRules(t *testing.T) {
	for _, c := range []struct{ text, key, says string }{
		{"", "", ""},
		{"[server]\ntls = { enabled = true }\n", "server.tls.kms_key", "must be set where server.tls.enabled"},
		{"[server]\ntls = { enabled = true, kms_key = \"KMS:key/tls\" }\n", "server.tls.cert_chain", "must be set"},
		{"[server]\ntls = { enabled = true, kms_key = \"KMS:key/tls\", cert_chain = \"KMS:obj/cert_chain\" }\n", "", ""},
		{"[server.tls]\nenabled = true\nkms_key = \"KMS:key/tls\"\ncert_chain = \"KMS:obj/c\"\nclient_auth = \"require\"\n", "server.tls.client_ca", "must be set where server.tls.client_auth"},
		{"[server.tls]\nenabled = true\nkms_key = \"KMS:key/tls\"\ncert_chain = \"KMS:obj/c\"\nclient_ca = \"KMS:obj/ca\"\n", "server.tls.client_ca", "has no effect"},
		{"[server.tls]\nclient_auth = \"require\"\n", "server.tls.client_auth", "has no effect"},
		{"[server.tls]\npq = \"require\"\n", "server.tls.pq", "has no effect"},
		{"[server.tls]\nkms_key = \"\"\n", "", ""},
		{"[server.tls]\nclient_auth = \"\"\n", "server.tls.client_auth", "must not be empty"},
		{"[server]\nbind = \"\"\n", "server.bind", "must not be empty"},
		{"[server]\nbind = \":8080\"\n", "server.bind", "HOST:PORT"},
		{"[server]\nbind = \"127.0.0.1:08\"\n", "server.bind", "HOST:PORT"},
		{"[server]\nbind = \"127.0.0.256:80\"\n", "server.bind", "HOST:PORT"},
		{"[server]\nbind = \"[::1]:0\"\nadmin_bind = \"[::1]:0\"\n", "", ""},
		{"[server]\nadmin_bind = \"127.0.0.1:8080\"\n", "server.admin_bind", "address of server.bind too"},
		{"[server]\nbind = \"127.0.0.1:34000\"\n", "oap.bind", "address of server.bind too"},
		{"[server]\nuds_allow_uids = [0]\n", "server.uds_allow_uids", "no effect"},
		{"[server]\nuds = \"/run/" + strings.Repeat("x", 120) + "\"\n", "server.uds", "at most 107"},
		{"[server]\nuds = \"/run/macronode.sock\"\nuds_allow_uids = [0, 1000]\n", "", ""},
		{"[server]\nlame_duck = \"20s\"\n", "server.lame_duck", "shorter than server.drain_timeout"},
		{"[server]\nmax_conns = 10\nmax_conns_per_ip = 11\n", "server.max_conns_per_ip", "more than server.max_conns"},
		{"[server]\nmax_conns = 10\n", "", ""},
		{"[server]\ntrusted_proxies = [\"10.0.0.1/8\"]\n", "server.trusted_proxies[0]", "without host bits"},
		{"[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/8\"]\n", "server.trusted_proxies[1]", "duplicate"},
		{"[server]\ncors_origins = [\"*\"]\n", "server.cors_origins[0]", "web origins"},
		{"[server]\ncors_origins = [\"https://a.example/\"]\n", "server.cors_origins[0]", "web origins"},
		{"[oap]\nmax_frame_bytes = 1048577\n", "oap.max_frame_bytes", "8192 to 1048576"},
		{"[oap]\nmax_frame_bytes = \"1MiB\"\n", "oap.max_frame_bytes", "found text; want a whole number"},
		{"[oap]\nmax_frame_bytes = 32768\nchunk_bytes = 32769\n", "oap.chunk_bytes", "more than oap.max_frame_bytes"},
		{"[oap]\nmax_frame_bytes = 32768\n", "", ""},
		{"[[oap.peers]]\naddr = \"peer:34000\"\nnode_id = \"" + nodeID + "\"\n[[oap.peers]]\naddr = \"b:1\"\nnode_id = \"" + nodeID + "\"\n", "oap.peers[1].node_id", "peer 0 has it"},
		{"[oap]\npeers = [{ addr = \"peer:34000\" }]\n", "oap.peers[0].node_id", "missing"},
		{"[oap]\npeers = [{ addr = \"peer:34000\", node_id = \"" + nodeID + "\" }]\n", "oap.peers", "needs server.tls.enabled"},
		{peersOf(1), "", ""}, {peersOf(MaxPeers), "", ""}, {peersOf(MaxPeers + 1), "oap.peers", "at most 64"},
		{strings.Replace(peersOf(2), "peer1:1", "peer1:0", 1), "oap.peers[1].addr", "port 0 is nobody's"},
		{"[readiness]\nrequired_services = [\"svc-gatway\"]\n", "readiness.required_services[0]", "did you mean \"svc-gateway\"?"},
		{"[server]\nmax_body_bytes = 1\n", "server.max_body_bytes", "did you mean \"limits.max_body_bytes\"?"},
		{"[sever]\nbind = 1\n", "sever", "unknown section; did you mean \"server\"?"},
		{"[zk]\nenabled = true\n", "zk.kind", "verifies nothing"},
		{"[zk]\nenabled = true\n", "zk.verifying_key", "must be set"},
		{"[zk]\nenabled = true\n", "zk.param_hash_hex", "must be set"},
		{"[zk]\nverifying_key = \"KMS:obj/vk\"\nverifying_key_b64 = \"AAAA\"\n", "zk.verifying_key_b64", "one of them"},
		{"[tor]\nenabled = true\n", "tor.service_key", "must be set"},
		{"[econ]\nenable_wallet = true\n", "econ.enable_wallet", "needs econ.enable_ledger"},
		{"[kms]\nroot = \"keyfile:\"\n", "kms.root", "keyfile:PATH"},
		{"[kms]\nroot = \"passphrase:hunter2\"\n", "kms.root", "the value is not accepted"},
		{"[kms]\nroot = \"systemd:ron-root\"\n", "", ""},
		{"[kms]\nroot = \"passphrase-file:/run/secrets/p\"\n", "", ""},
		{"[kms]\nroot = \"https://user:pw@kms.example/\"\n", "kms.root", "without credentials"},
		{"[kms]\nroot = \"https://kms.example/root\"\n", "kms.root", "hashivault://KEY?addr=https://HOST:PORT"},
		{"[data]\nmetadata = \"postgres://u:hunter2@h/db\"\n", "data.metadata", "without a password"},
		{"[data]\ndir = \"relative\"\n", "data.dir", "an absolute path"},
		{"[facets.graph]\npermits = \"4xCPU\"\n", "", ""},
		{"[facets.graph]\npermits = 0\n", "facets.graph.permits", "out of range"},
		{"[facets]\nenable = [\"graph\", \"media\"]\n[facets.feed]\npermits = 12\n", "", ""},
		{"[facets]\nenable = [\"graf\"]\n", "facets.enable[0]", "did you mean \"graph\"?"},
		{"[limits]\nmax_object_bytes = 5368709120\n", "", ""},
		{"[limits]\nmax_object_bytes = \"5GB\"\n", "limits.max_object_bytes", "want a size"},
		{"[telemetry]\notlp_endpoint = \"http://127.0.0.1:4318\"\n", "", ""},
	} {
		got := problemsOf(t, minimal+c.text)
		if c.key == "" {
			if len(got) > 0 {
				t.Errorf("%s\nrefused: %v", c.text, got)
			}
			continue
		}
		key := strings.ReplaceAll(c.key, "[0]", "")
		if !strings.Contains(got[key], c.says) {
			t.Errorf("%s\ngot %v, want %q for %s", c.text, got, c.says, c.key)
		}
	}
	for _, text := range []string{"false", `"true"`, "0"} {
		if got := problemsOf(t, meta+strings.Replace(policy, "]\n", "]\ndeny_by_default = "+text+"\n", 1)); !strings.Contains(got["policy.deny_by_default"], "true") {
			t.Errorf("deny_by_default = %s: got %v", text, got)
		}
	}
	zeros := strings.Repeat("0", 64)
	for _, c := range []struct{ lines, key string }{
		{"shadow_kms = \"KMS:obj/p@v2\"\n", "policy.shadow_kms"},
		{"shadow_hash = \"blake3:" + zeros[1:] + "1\"\n", "policy.shadow_kms"},
		{"shadow_kms = \"KMS:obj/p\"\nshadow_hash = \"blake3:" + zeros[1:] + "1\"\n", "policy.shadow_kms"},
		{"record = 16385\n", "policy.record"},
		{"shadow_kms = \"KMS:obj/p@v2\"\nshadow_hash = \"blake3:" + zeros[1:] + "1\"\nrecord = 0\n", ""},
	} {
		got := problemsOf(t, meta+strings.Replace(policy, "]\n", "]\n"+c.lines, 1))
		if (c.key == "") != (len(got) == 0) || c.key != "" && got[c.key] == "" {
			t.Errorf("%s: got %v, want a problem of %q", c.lines, got, c.key)
		}
	}
	if got := problemsOf(t, meta+strings.Replace(policy, "@v1", "", 1)); !strings.Contains(got["policy.bundle_kms"], "one version") {
		t.Errorf("an unpinned policy: got %v", got)
	}
}

// TestAllProblems: one reading reports everything, in the order of the file.
func TestAllProblems(t *testing.T) {
	const text = "[meta]\nversion = 0\nsigner = \"KMS:obj/x\"\n[server]\nbnid = 1\nmax_conns = 0\nmax_conns = 1\nidle_timeout = 5\n" +
		"tls = { enabled = true, pqq = \"x\" }\n[nonsense]\nx = 1\n"
	_, err := Check([]byte(text), fileName, Features{})
	var lines []string
	for line := range strings.SplitSeq(fmt.Sprint(err), "\n") {
		place, _, _ := strings.Cut(strings.TrimPrefix(line, fileName), ": key ")
		key, _, _ := strings.Cut(strings.TrimPrefix(line, fileName+place+": key \""), "\"")
		lines = append(lines, place+" "+key)
	}
	want := []string{
		" policy.bundle_kms", " policy.bundle_hash",
		":1 meta.bundle_hash", ":2 meta.version", ":3 meta.signer", ":5 server.bnid", ":6 server.max_conns", ":7 server.max_conns", ":8 server.idle_timeout",
		":9 server.tls.pqq", ":9 server.tls.kms_key", ":9 server.tls.cert_chain", ":10 nonsense",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%v\n\nplaces\n%s\nwant\n%s", err, got, strings.Join(want, "\n"))
	}
}

func TestFeatures(t *testing.T) {
	zk := "[zk]\nenabled = true\nkind = \"groth16\"\nverifying_key = \"KMS:obj/vk\"\nparam_hash_hex = \"" + nodeID[3:] + "\"\n"
	tor := "[tor]\nenabled = true\nservice_key = \"KMS:key/onion\"\n"
	for _, c := range []struct {
		text, key, says string
		built           Features
	}{
		{zk, "zk.enabled", "not built in; it needs a build with -tags zk", Features{}},
		{zk, "zk.enabled", "zk is not finished", Features{ZK: true}},
		{"[amnesia]\nenabled = true\n", "amnesia.enabled", "-tags amnesia", Features{}},
		{"[amnesia]\nenabled = true\n", "amnesia.enabled", "not finished", Features{Amnesia: true}},
		{tor, "tor.enabled", "-tags arti", Features{}},
		{tor, "tor.enabled", "not finished", Features{Arti: true}},
		{"[econ]\nenable_ledger = true\n", "econ.enable_ledger", "not finished", Features{true, true, true}},
		{"[data]\nmetadata = \"KMS:obj/dsn\"\n", "data.metadata", "not finished", Features{true, true, true}},
		{"[data]\nobjects = \"s3://bucket?endpoint=https://s3.example&credentials=KMS:obj/s3\"\n", "data.objects", "not finished", Features{true, true, true}},
	} {
		_, err := Check([]byte(minimal+c.text), fileName, c.built)
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassFeature || e.ExitCode() != 3 || len(e.Problems) != 1 {
			t.Errorf("%s\ngot %v", c.text, err)
			continue
		}
		if p := e.Problems[0]; p.Key != c.key || !strings.Contains(p.Text, c.says) || p.Line < 9 {
			t.Errorf("got %v, want %q of %s", p, c.says, c.key)
		}
	}
	// Beside a wrong key, it is the wrong key's class.
	_, err := Check([]byte(minimal+"[econ]\nenable_ledger = true\nenable_lodger = true\n"), fileName, Features{})
	var e *Error
	if !errors.As(err, &e) || e.Class != ClassBad || len(e.Problems) != 2 {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	trust, signers := release()
	text := seal(f, seedText(f), 0)
	f.Add(text, sign(f, text, signers...))
	f.Add([]byte(minimal), []byte("{}"))
	f.Add([]byte("[[oap.peers]]\n[oap.peers.x]\n[oap]\npeers=[]\n"), []byte(nil))
	f.Add([]byte("server.tls.enabled = true\n[server]\ntls = {}\n"), []byte(nil))
	f.Fuzz(func(t *testing.T, text, sig []byte) {
		if l, err := Load(text, fileName, sig, Options{Trust: trust}); err == nil && !bytes.Equal(text, seal(t, text, 0)) {
			t.Fatalf("accepted with a hash that is not its own: %v", l.Hash)
		}
		l, err := Check(text, fileName, Features{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.ExitCode() != ExitBad || len(e.Problems) == 0 {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		if d := Diff(&l.Config, &l.Config); len(d) != 0 {
			t.Fatalf("differs from itself: %v", d)
		}
		// What was accepted is accepted again once it is sealed, signed and loaded.
		again, err := Seal(text, 0, "KMS:key/ops-release")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Load(again, fileName, sign(t, again, signers...), Options{Trust: trust}); err != nil {
			t.Fatalf("sealed and signed, but refused: %v", err)
		}
	})
}

// peersOf is TLS and n peers.
func peersOf(n int) string {
	text := "[server.tls]\nenabled = true\nkms_key = \"KMS:key/tls\"\ncert_chain = \"KMS:obj/chain\"\n"
	for i := range n {
		text += fmt.Sprintf("[[oap.peers]]\naddr = \"peer%d:1\"\nnode_id = \"b3:%064x\"\n", i, i)
	}
	return text
}
