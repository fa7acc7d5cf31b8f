// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

var (
	tlsRef   = kms.Ref{Kind: kms.RefKey, Name: "tls"}
	chainRef = kms.Ref{Kind: kms.RefObject, Name: "cert_chain"}
)

// selfSign puts a chain for the newest version of the key.
func selfSign(t *testing.T, s *kms.Store) []byte {
	t.Helper()
	chain, err := s.SelfSigned(tlsRef, kms.PurposeTLS, kms.CertSpec{DNS: []string{"node.test"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutObject(ctx, "cert_chain", 0, chain); err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestHandshake(t *testing.T) {
	for _, alg := range []kms.Algorithm{kms.P256, kms.Ed25519} {
		s := newStore(t)
		create(t, s, "tls", alg, kms.PurposeTLS)
		chain := selfSign(t, s)
		cert, err := s.Certificate(ctx, tlsRef, chainRef)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(chain) {
			t.Fatal("not a certificate")
		}
		for _, name := range []string{"node.test", "127.0.0.1", "::1"} {
			a, b := net.Pipe()
			server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13})
			client := tls.Client(b, &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS13})
			done := make(chan error, 1)
			go func() { done <- server.Handshake() }()
			if err := client.Handshake(); err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
			}
			if err := <-done; err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
			}
			_, _ = a.Close(), b.Close()
		}
	}
}

func TestSelfSignedShape(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s := openOn(t, memDisk(t), kms.Options{Now: func() time.Time { return now }})
	create(t, s, "tls", kms.P256, kms.PurposeTLS)
	block, rest := pem.Decode(selfSign(t, s))
	if block == nil || len(rest) != 0 {
		t.Fatal("not one certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA || !c.NotBefore.Equal(now.Add(-time.Hour)) || c.NotAfter.Sub(c.NotBefore) > 398*24*time.Hour || c.NotAfter.Before(now.AddDate(1, 0, 0)) {
		t.Fatalf("%v %v %v", c.IsCA, c.NotBefore, c.NotAfter)
	}
	if _, err := s.SelfSigned(tlsRef, kms.PurposeNode, kms.CertSpec{}); err == nil {
		t.Fatal("a key of another purpose signs a certificate")
	}
}

// A key may be rotated before its chain is: the certificate's version serves.
func TestCertificateFollowsTheLeaf(t *testing.T) {
	s := newStore(t)
	create(t, s, "tls", kms.P256, kms.PurposeTLS)
	selfSign(t, s)
	first, err := s.Certificate(ctx, tlsRef, chainRef)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: "tls"}); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Certificate(ctx, tlsRef, chainRef); err != nil || !c.Leaf.Equal(first.Leaf) {
		t.Fatal(err)
	}
	two := tlsRef
	two.Version = 2
	_, err = s.Certificate(ctx, two, chainRef)
	wantKind(t, err, macronode.Invalid)
	selfSign(t, s)
	if c, err := s.Certificate(ctx, two, chainRef); err != nil || c.Leaf.Equal(first.Leaf) {
		t.Fatal(err)
	}
	create(t, s, "other", kms.P256, kms.PurposeTLS)
	_, err = s.Certificate(ctx, kms.Ref{Kind: kms.RefKey, Name: "other"}, chainRef)
	wantKind(t, err, macronode.Invalid)
	for _, bad := range []string{"", "no pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, _, err := s.PutObject(ctx, "cert_chain", 0, []byte(bad)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Certificate(ctx, tlsRef, chainRef)
		wantKind(t, err, macronode.Invalid)
	}
	_ = s.Close()
	digest := make([]byte, 32)
	if _, err := first.PrivateKey.(crypto.Signer).Sign(rand.Reader, digest, crypto.SHA256); err == nil {
		t.Fatal("a closed store signs handshakes")
	}
}

func TestImport(t *testing.T) {
	s := newStore(t)
	pub, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(k any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	sec1PEM := append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...)
	edPEM, p256PEM, p384PEM := pkcs8(ed), pkcs8(p256), pkcs8(p384)
	point, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		alg      kms.Algorithm
		material []byte
		version  uint64 // 0: refused
		raw      []byte
	}{
		{"ed", kms.Ed25519, edPEM, 1, pub},
		{"ed", kms.Ed25519, ed.Seed(), 1, pub},
		{"ed", kms.Ed25519, make([]byte, 32), 2, nil},
		{"ed", kms.Ed25519, edPEM, 1, nil},
		{"ec", kms.P256, p256PEM, 1, point},
		{"ec", kms.P256, sec1PEM, 1, point},
		{"ec", kms.P256, edPEM, 0, nil},
		{"ec", kms.P256, p384PEM, 0, nil},
		{"ec", kms.P256, make([]byte, 32), 0, nil}, // zero is no scalar
		{"ec", kms.P256, bytes.Repeat([]byte{0xff}, 32), 0, nil},
		{"ec", kms.P256, nil, 0, nil},
		{"ml", kms.MLDSA65, bytes.Repeat([]byte{1}, 32), 1, nil},
		{"hy", kms.Ed25519MLDSA65, bytes.Repeat([]byte{1}, 64), 1, nil},
		{"hy", kms.Ed25519MLDSA65, bytes.Repeat([]byte{1}, 32), 0, nil},
		{"mac", kms.MAC256, bytes.Repeat([]byte{2}, 32), 1, nil},
		{"mac", kms.MAC256, bytes.Repeat([]byte{2}, 33), 0, nil},
	} {
		material := bytes.Clone(c.material)
		info, n, err := s.Import(ctx, kms.Spec{Name: c.name, Alg: c.alg, Purpose: kms.PurposeApp}, material)
		if c.version == 0 {
			wantKind(t, err, macronode.Invalid)
			continue
		}
		if err != nil || n != c.version {
			t.Fatalf("%s %s: %d, %v", c.name, c.alg, n, err)
		}
		if c.raw != nil && !bytes.Equal(info.Find(n).Public[0].Raw, c.raw) {
			t.Errorf("%s: another public key", c.name)
		}
		if !bytes.Equal(material, make([]byte, len(material))) {
			t.Errorf("%s: the material was not wiped", c.name)
		}
	}
	sig, err := s.Sign(ctx, "ed", kms.PurposeApp, []byte("m"))
	if err != nil || sig.Version != 2 {
		t.Fatal(sig.Version, err)
	}
	_, _, err = s.Import(ctx, kms.Spec{Name: "ed", Alg: kms.Ed25519, Purpose: kms.PurposeTLS}, bytes.Clone(edPEM))
	wantKind(t, err, macronode.Conflict)
}
