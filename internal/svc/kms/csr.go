// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/netip"
	"strings"

	"github.com/rustyonions/macronode"
)

// Limits of what a certificate may be asked for.
const (
	maxCertNames      = 100
	maxCommonName     = 64 // the ASN.1 upper bound
	maxCertNameLength = 253
)

// Validate says what of c no certificate can name, as Invalid: nothing at all,
// too many names, a host name that is none (a leading "*." is a wildcard), an
// address that is invalid or has a zone.
func (c *CertSpec) Validate() error {
	if len(c.DNS)+len(c.IPs)+len(c.URIs) == 0 {
		return macronode.Errorf(macronode.Invalid, "a certificate needs a DNS name or an address to be for")
	}
	if len(c.DNS)+len(c.IPs)+len(c.URIs) > maxCertNames {
		return macronode.Errorf(macronode.Invalid, "a certificate is for at most %d names", maxCertNames)
	}
	for _, name := range c.DNS {
		if !hostName(strings.TrimPrefix(name, "*.")) || len(name) > maxCertNameLength {
			return macronode.Errorf(macronode.Invalid, "%q is not a DNS name in lower-case ASCII", name)
		}
	}
	for _, ip := range c.IPs {
		if !ip.IsValid() || ip.Zone() != "" {
			return macronode.Errorf(macronode.Invalid, "an address of a certificate has no zone")
		}
	}
	if len(c.CommonName) > maxCommonName {
		return macronode.Errorf(macronode.Invalid, "a common name has at most %d bytes", maxCommonName)
	}
	return nil
}

// hostName reports whether s is a DNS name as certificates have them: labels of
// 1 to 63 of a-z, 0-9 and -, which neither begins nor ends one. Others are
// written in Punycode, which is that.
func hostName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// CertRequest makes a PKCS #10 request (PEM) for a certificate of the referenced
// key of purpose tls, the newest version where it names none, and returns that
// version. The request is signed by the key, and changes nothing. Recorded.
func (s *Store) CertRequest(ctx context.Context, keyRef Ref, spec CertSpec) (request []byte, version uint64, err error) {
	alg := noAlg
	defer func() { s.metrics.count(opCSR, alg, err) }()
	if err := spec.Validate(); err != nil {
		return nil, 0, err
	}
	signers, err := s.Signers(keyRef, PurposeTLS)
	if err != nil {
		return nil, 0, err
	}
	alg, version = signers[0].key.alg, signers[0].v.number
	signer, err := newCryptoSigner(signers[0])
	if err != nil {
		return nil, 0, err
	}
	t := &x509.CertificateRequest{DNSNames: spec.DNS, URIs: spec.URIs, Subject: pkix.Name{CommonName: spec.CommonName}}
	for _, ip := range spec.IPs {
		t.IPAddresses = append(t.IPAddresses, ip.Unmap().AsSlice())
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, signer)
	if err != nil {
		if macronode.KindOf(err) == macronode.Unavailable || macronode.KindOf(err) == macronode.NotFound {
			return nil, 0, err
		}
		return nil, 0, macronode.Wrap(macronode.Internal, "", err)
	}
	if err := s.before(ctx, s.event(ctx, opCSR, keyRef.Name, attrs(alg, version))); err != nil {
		return nil, 0, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), version, nil
}

// GuardChains has PutObject refuse a certificate chain that does not fit its
// key. Chains returns, for the name of each object that is served as a chain,
// the name of its key; it is called at each put and must not call the store.
func (s *Store) GuardChains(chains func() map[string]string) {
	s.use.Lock()
	defer s.use.Unlock()
	s.chains = chains
}

// checkChain refuses data as the object of that name where it is served as a
// chain and is none, or is one for no version of the key: the next reload, and
// the next start, would fail on it.
func (s *Store) checkChain(name string, data []byte) error {
	s.use.RLock()
	chains := s.chains
	s.use.RUnlock()
	if chains == nil {
		return nil
	}
	key := chains()[name]
	if key == "" {
		return nil
	}
	c, err := parseChain(data)
	if err != nil {
		return macronode.Errorf(macronode.Invalid, "object %s is served as the certificate chain of key %s: %w", name, key, err)
	}
	signer, err := s.certified(Ref{Kind: RefKey, Name: key}, c.Leaf)
	if err != nil && macronode.KindOf(err) != macronode.NotFound {
		return err
	}
	if signer == nil {
		return macronode.Errorf(macronode.Invalid, "object %s is served as the certificate chain of key %s, and this certificate is for no version of it", name, key)
	}
	return nil
}

// ParseCertNames reads names and addresses as people write them.
func ParseCertNames(dns, ips []string, commonName string) (CertSpec, error) {
	spec := CertSpec{DNS: dns, CommonName: commonName}
	for _, text := range ips {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return CertSpec{}, macronode.Errorf(macronode.Invalid, "%q is not an IP address", text)
		}
		spec.IPs = append(spec.IPs, ip)
	}
	return spec, spec.Validate()
}
