// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"net/url"
	"time"

	"github.com/rustyonions/macronode"
)

// maxChain bounds the certificates of one chain.
const maxChain = 16

// SelfSignedDays is how long a certificate of SelfSigned is good: a little over
// a year, the longest that TLS clients in general accept of any certificate.
const SelfSignedDays = 397

// cryptoSigner is one version of a P-256 or Ed25519 key as crypto/tls and
// crypto/x509 want it. It works until the store closes or the key is deleted.
type cryptoSigner struct {
	Signer
	public crypto.PublicKey
}

func (c *cryptoSigner) Public() crypto.PublicKey { return c.public }

// Sign signs digest as crypto.Signer says.
func (c *cryptoSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := c.signDigest(digest, opts)
	c.store.metrics.count(opSign, c.key.alg, err)
	return sig, err
}

func (c *cryptoSigner) signDigest(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s := c.store
	s.use.RLock()
	defer s.use.RUnlock()
	if err := s.ready(); err != nil {
		return nil, err
	}
	if c.v.wiped {
		return nil, macronode.Errorf(macronode.NotFound, "key %s was deleted", c.key.name)
	}
	return c.half.SignDigest(digest, opts)
}

// CryptoSigner returns the referenced key, of purpose tls or node, for TLS
// handshakes and certificates. Its uses are counted but not audited: there is
// one a connection.
func (s *Store) CryptoSigner(ref Ref, p Purpose) (crypto.Signer, error) {
	if p != PurposeTLS && p != PurposeNode {
		return nil, macronode.Errorf(macronode.Denied, "keys of purpose %s are not for TLS", p)
	}
	signers, err := s.Signers(ref, p)
	if err != nil {
		return nil, err
	}
	return newCryptoSigner(signers[0])
}

func newCryptoSigner(g *Signer) (crypto.Signer, error) {
	if public := g.half.Public(); public != nil {
		return &cryptoSigner{*g, public}, nil
	}
	return nil, macronode.Errorf(macronode.Denied, "key %s of algorithm %s is not for TLS", g.key.name, g.key.alg)
}

// Certificate joins a key of purpose tls and a chain object (PEM, leaf first) to
// what crypto/tls serves. Where keyRef names no version, the version is the one
// that the leaf certifies, so that key and chain can be rotated one after the
// other. Invalid where the chain cannot be read or certifies another key.
func (s *Store) Certificate(ctx context.Context, keyRef, chainRef Ref) (*tls.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	chain, _, err := s.Object(chainRef)
	if err != nil {
		return nil, err
	}
	c, err := parseChain(chain)
	if err != nil {
		return nil, macronode.Errorf(macronode.Invalid, "%s: %w", chainRef, err)
	}
	signer, err := s.certified(keyRef, c.Leaf)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		return nil, macronode.Errorf(macronode.Invalid, "the certificate in %s is not for %s", chainRef, keyRef)
	}
	c.PrivateKey = signer
	return c, nil
}

// certified returns the version of a key of purpose tls that a certificate is
// for, the newest first; nil where it is for none that the reference allows.
func (s *Store) certified(keyRef Ref, leaf *x509.Certificate) (crypto.Signer, error) {
	info, err := s.Key(keyRef.Name)
	if err != nil {
		return nil, err
	}
	for i := len(info.Versions) - 1; i >= 0; i-- {
		ref := Ref{Kind: keyRef.Kind, Name: keyRef.Name, Version: info.Versions[i].Version}
		if keyRef.Version != 0 && keyRef.Version != ref.Version {
			continue
		}
		signer, err := s.CryptoSigner(ref, PurposeTLS)
		if err != nil {
			return nil, err
		}
		if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(signer.Public()) {
			return signer, nil
		}
	}
	return nil, nil
}

func parseChain(text []byte) (*tls.Certificate, error) {
	var c tls.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("a chain holds certificates alone")
		}
		if len(c.Certificate) == maxChain {
			return nil, errors.New("too many certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate cannot be read")
		}
		if c.Leaf == nil {
			c.Leaf = cert
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if c.Leaf == nil {
		return nil, errors.New("there is no certificate in PEM")
	}
	return &c, nil
}

// CertSpec says what a self-signed certificate is for.
type CertSpec struct {
	DNS        []string
	IPs        []netip.Addr
	URIs       []*url.URL
	CommonName string // "" makes it "macronode"
}

// SelfSigned makes a server certificate, in PEM, that the referenced key of
// purpose tls or node signs for itself: good from an hour ago (clocks differ) for
// SelfSignedDays. It is no CA.
func (s *Store) SelfSigned(keyRef Ref, p Purpose, spec CertSpec) ([]byte, error) {
	signer, err := s.CryptoSigner(keyRef, p)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	serial[0] = serial[0]&0x7f | 1 // positive, and never zero
	name := spec.CommonName
	if name == "" || len(name) > 64 { // the ASN.1 upper bound of a common name
		name = "macronode"
	}
	start := s.now().UTC().Add(-time.Hour).Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: start, NotAfter: start.AddDate(0, 0, SelfSignedDays).Add(-time.Second),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    spec.DNS, URIs: spec.URIs, BasicConstraintsValid: true,
	}
	for _, ip := range spec.IPs {
		t.IPAddresses = append(t.IPAddresses, ip.Unmap().AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, signer.Public(), signer)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
