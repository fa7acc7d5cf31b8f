// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Authority issues the certificates of a node on this machine.
type Authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// NewAuthority makes one of its own.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key, serial: 1}
	t := a.template("bench authority")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

func (a *Authority) template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

// Roots trust this authority alone.
func (a *Authority) Roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Issue returns a certificate for localhost, as PEM, and its serial number.
func (a *Authority) Issue(public crypto.PublicKey) (chain []byte, serial int64, err error) {
	a.serial++
	t := a.template("localhost")
	t.DNSNames, t.IPAddresses = []string{"localhost"}, append(t.IPAddresses, netip.MustParseAddr("127.0.0.1").AsSlice())
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.serial, err
}

// Pair is a key and its certificate in files.
type Pair struct{ Key, Chain string }

// NewPair makes a P-256 key with a certificate in dir.
func (a *Authority) NewPair(dir string) (Pair, error) {
	p := Pair{filepath.Join(dir, "bench.key"), filepath.Join(dir, "bench.crt")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, err
	}
	der, err1 := x509.MarshalPKCS8PrivateKey(key)
	chain, _, err2 := a.Issue(key.Public())
	return p, errors.Join(err1, err2, os.WriteFile(p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600), os.WriteFile(p.Chain, chain, 0o600))
}

// Names of the node's key and chain.
const (
	TLSKey   = "tls-bench"
	TLSChain = "chain-bench"
)

// ServeTLS has a node that does not run yet serve TLS with p, whose certificate
// is this authority's.
func (a *Authority) ServeTLS(ctx context.Context, n *Node, p Pair) error {
	for _, args := range [][]string{
		{"kms", "import", TLSKey, "--alg", "ecdsa-p256", "--purpose", "tls", "--in", p.Key, "--data", n.Data},
		{"kms", "put-object", TLSChain, "--in", p.Chain, "--data", n.Data},
	} {
		if _, err := n.Tool(ctx, args...); err != nil {
			return err
		}
	}
	n.URL, n.Roots = "https"+n.URL[len("http"):], a.Roots()
	return n.Edit(ctx, Set("server", map[string]string{"tls": `{ enabled = true, kms_key = "KMS:key/` + TLSKey + `", cert_chain = "KMS:obj/` + TLSChain + `" }`}))
}
