// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
)

// A dropped version is gone: it verifies and opens nothing, also after a
// restart, its secret is in no record, its number is not used again, and the
// others work on.
func TestDropVersion(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	a := &auditor{}
	s.SetAuditor(a)
	create(t, s, "s", kms.Ed25519, kms.PurposeApp)
	create(t, s, "w", kms.AES256GCM, kms.PurposeApp)
	secret := bytes.Repeat([]byte{0xA7, 0x13}, 16)
	if _, _, err := s.Import(ctx, kms.Spec{Name: "w", Alg: kms.AES256GCM, Purpose: kms.PurposeApp}, bytes.Clone(secret)); err != nil {
		t.Fatal(err)
	}
	sig1, _ := s.Sign(ctx, "s", kms.PurposeApp, []byte("m"))
	wrapped2, _ := s.Wrap(ctx, "w", kms.PurposeApp, []byte("p"), nil)
	for _, name := range []string{"s", "w"} {
		if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	sig2, _ := s.Sign(ctx, "s", kms.PurposeApp, []byte("m"))
	wrapped3, _ := s.Wrap(ctx, "w", kms.PurposeApp, []byte("p"), nil)

	_, err := s.DropVersion(ctx, "s", 2)
	wantKind(t, err, macronode.Conflict) // the newest
	for _, n := range []uint64{0, 3} {
		_, err = s.DropVersion(ctx, "s", n)
		wantKind(t, err, macronode.NotFound)
	}
	a.err = errors.New("audit is full")
	_, err = s.DropVersion(ctx, "s", 1)
	wantKind(t, err, macronode.Unavailable)
	if ok, err := s.Verify(ctx, "s", kms.PurposeApp, []byte("m"), sig1); !ok || err != nil {
		t.Fatal("it was dropped without a record", err)
	}
	a.err = nil
	for name, n := range map[string]uint64{"s": 1, "w": 2} {
		if info, err := s.DropVersion(ctx, name, n); err != nil || info.Find(n) != nil {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	check := func(s *kms.Store) {
		t.Helper()
		if ok, _ := s.Verify(ctx, "s", kms.PurposeApp, []byte("m"), sig1); ok {
			t.Error("a dropped version verifies")
		}
		if ok, err := s.Verify(ctx, "s", kms.PurposeApp, []byte("m"), sig2); !ok || err != nil {
			t.Error("the other does not verify", err)
		}
		_, err := s.Unwrap(ctx, "w", kms.PurposeApp, wrapped2, nil)
		wantKind(t, err, macronode.Invalid)
		if p, err := s.Unwrap(ctx, "w", kms.PurposeApp, wrapped3, nil); err != nil || string(p) != "p" {
			t.Error("the other does not open", err)
		}
	}
	check(s)
	_ = s.Close()
	v, err := keystore.Open(f, dir, root, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = v.Load("key/w", func(plain []byte) error {
		if bytes.Contains(plain, secret) {
			t.Error("the record holds the dropped secret")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = v.Close()
	s = openOn(t, f, kms.Options{})
	check(s)
	if info, n, _, err := s.Rotate(ctx, kms.Spec{Name: "s"}); err != nil || n != 3 {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestDropVersionIsForCallersKeys(t *testing.T) {
	s := newStore(t)
	for name, p := range map[string]kms.Purpose{"mint-x": kms.PurposeMint, "node": kms.PurposeNode, "rel": kms.PurposeBundle, "audit": kms.PurposeAudit} {
		alg := kms.MAC256
		switch p {
		case kms.PurposeNode:
			alg = kms.P256
		case kms.PurposeBundle, kms.PurposeAudit:
			alg = kms.Ed25519
		}
		create(t, s, name, alg, p)
		if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: name}); err != nil {
			t.Fatal(err)
		}
		_, err := s.DropVersion(ctx, name, 1)
		wantKind(t, err, macronode.Denied)
	}
}

// issue is a certificate authority's answer to a request.
func issue(t *testing.T, csr []byte) []byte {
	t.Helper()
	block, rest := pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) != 0 {
		t.Fatal("not a request in PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	caCert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: r.DNSNames, IPAddresses: r.IPAddresses}
	der, err := x509.CreateCertificate(rand.Reader, leaf, caCert, r.PublicKey, ca)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A rotated key gets a certificate of an authority: request, chain, served. A
// chain that is for another key, or is none, is refused where it is served.
func TestRequestAndChain(t *testing.T) {
	for _, alg := range []kms.Algorithm{kms.P256, kms.Ed25519} {
		s := newStore(t)
		create(t, s, "tls", alg, kms.PurposeTLS)
		create(t, s, "tls2", alg, kms.PurposeTLS)
		create(t, s, "app", alg, kms.PurposeApp)
		selfSign(t, s)
		s.GuardChains(func() map[string]string { return map[string]string{"cert_chain": "tls"} })
		if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: "tls"}); err != nil {
			t.Fatal(err)
		}
		spec := kms.CertSpec{DNS: []string{"node.example.org", "*.example.org"}, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, CommonName: "node"}
		csr, version, err := s.CertRequest(ctx, tlsRef, spec)
		if err != nil || version != 2 {
			t.Fatal(version, err)
		}
		_, err = s.DropVersion(ctx, "tls", 1)
		wantKind(t, err, macronode.Conflict) // it is served
		chain := issue(t, csr)
		if _, _, err := s.PutObject(ctx, "cert_chain", 0, chain); err != nil {
			t.Fatal(err)
		}
		c, err := s.Certificate(ctx, tlsRef, chainRef)
		if err != nil || len(c.Leaf.DNSNames) != 2 || len(c.Leaf.IPAddresses) != 2 {
			t.Fatalf("%v", err)
		}
		if _, err := s.DropVersion(ctx, "tls", 1); err != nil {
			t.Fatal(err)
		}
		other := tlsRef
		other.Name = "tls2"
		csr, _, err = s.CertRequest(ctx, other, spec)
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{"another key's": issue(t, csr), "none": []byte("x"), "empty": nil, "a request": csr} {
			_, _, err = s.PutObject(ctx, "cert_chain", 0, bad)
			if macronode.KindOf(err) != macronode.Invalid {
				t.Errorf("%s: %v", name, err)
			}
			if _, _, err = s.PutObject(ctx, "elsewhere-"+strings.ReplaceAll(name[:2], " ", ""), 0, append([]byte("1"), bad...)); err != nil {
				t.Errorf("an object that is not served: %v", err)
			}
		}
		_, _, err = s.CertRequest(ctx, kms.Ref{Kind: kms.RefKey, Name: "app"}, spec)
		wantKind(t, err, macronode.Denied)
	}
}

func TestRequestNames(t *testing.T) {
	for _, c := range []struct {
		dns, ips []string
		name     string
		ok       bool
	}{
		{dns: []string{"a"}, ok: true},
		{dns: []string{"xn--bcher-kva.example", "*.a.b"}, ok: true},
		{ips: []string{"::1", "10.0.0.1"}, ok: true},
		{},
		{name: "only a common name"},
		{dns: []string{"A.example"}}, {dns: []string{"a..b"}}, {dns: []string{"a."}}, {dns: []string{"-a"}}, {dns: []string{"a-"}}, {dns: []string{"*"}},
		{dns: []string{"a.*.b"}}, {dns: []string{"bücher.example"}}, {dns: []string{"a b"}}, {dns: []string{strings.Repeat("a", 64)}}, {dns: []string{strings.Repeat("a.", 127) + "ab"}},
		{ips: []string{"fe80::1%eth0"}}, {ips: []string{"1.2.3"}}, {dns: []string{"a"}, name: strings.Repeat("n", 65)},
		{dns: make([]string, 101)},
	} {
		_, err := kms.ParseCertNames(c.dns, c.ips, c.name)
		if (err == nil) != c.ok {
			t.Errorf("%q %q: %v", c.dns, c.ips, err)
		}
	}
}
