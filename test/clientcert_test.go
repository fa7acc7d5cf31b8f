// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes a certificate signed by ca (nil: by itself, an authority)
// and writes NAME.pem and NAME.key into dir.
func certificate(t *testing.T, dir, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if ca == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, ca, caKey = true, true, x509.KeyUsageCertSign, c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// TestBoundClientCert: a capability that is bound to a client certificate is good
// over a connection with that certificate, and over no other, on a node that asks
// for certificates and takes callers without.
func TestBoundClientCert(t *testing.T) {
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	ca, caKey := certificate(t, top, "ca", nil, nil)
	certificate(t, top, "me", ca, caKey)
	certificate(t, top, "you", ca, caKey)
	n := &node{t: t, dir: at("data"), file: at("endpoints.json")}
	n.macronode("init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tenant", "acme").must(t, 0)
	n.macronode("kms", "put-object", "client_ca", "--in", at("ca.pem"), "--data", n.dir).must(t, 0)
	n.edit(func(text string) string {
		return strings.Replace(text, "tls = {", `tls = { client_ca = "KMS:obj/client_ca", client_auth = "optional",`, 1)
	})
	n.cmd = exec.Command(binary(t, "macronode"), "run", "--config", n.bundle(), "--data", n.dir, "--endpoints", n.file)
	n.log, n.done = &tail{}, make(chan error, 1)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { n.done <- n.cmd.Wait() }()
	t.Cleanup(n.kill)
	ronctl := func(args ...string) result {
		t.Helper()
		return command(t, []string{"RON_NODE=" + n.HTTP, "RON_CA=" + filepath.Join(n.dir, "tls.crt"), "RON_CAP=@" + filepath.Join(n.dir, "tenant.cap")}, nil, "ronctl", args...)
	}
	n.await("ready", func() bool {
		text, err := os.ReadFile(n.file)
		return err == nil && json.Unmarshal(text, n) == nil && ronctl("node", "ready").code == 0
	})
	bound := at("bound.cap")
	token := ronctl("cap", "attenuate", "--client-cert", at("me.pem")).must(t, 0).out
	if err := os.WriteFile(bound, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	mine := []string{"--cert", at("me.pem"), "--key", at("me.key")}
	yours := []string{"--cert", at("you.pem"), "--key", at("you.key")}
	list := func(cert []string, args ...string) result {
		return ronctl(append(append([]string{"ls"}, cert...), args...)...)
	}
	list(nil).must(t, 0)
	list(mine).must(t, 0)
	list(mine, "--cap", "@"+bound).must(t, 0)
	for name, cert := range map[string][]string{"another": yours, "none": nil} {
		if out := list(cert, "--cap", "@"+bound).must(t, 6); !strings.Contains(out.err, "401 client_cert") {
			t.Errorf("%s certificate: %s", name, out.err)
		}
	}
	// A context keeps the paths; a key that others may read is not used.
	home := []string{"HOME=" + top}
	command(t, home, nil, "ronctl", append([]string{"context", "set", "tls", "--node", n.HTTP, "--ca", filepath.Join(n.dir, "tls.crt"), "--cap", "@" + bound}, mine...)...).must(t, 0)
	command(t, home, nil, "ronctl", "ls").must(t, 0)
	if err := os.Chmod(at("me.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := list(mine).must(t, 1); !strings.Contains(out.err, "chmod 600") {
		t.Errorf("an open key: %s", out.err)
	}
	list([]string{"--cert", at("me.pem"), "--key", at("you.key")}).must(t, 3)
}
