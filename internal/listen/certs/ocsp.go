// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// skew is how far clocks may differ.
const skew = 5 * time.Minute

// Waits after a fetch that failed: doubled each time.
const (
	firstRetry = 10 * time.Second
	lastRetry  = time.Hour
)

// Results of a fetch: label values.
const (
	resultGood        = "good"
	resultRevoked     = "revoked"
	resultUnknown     = "unknown"     // the responder does not know the certificate
	resultInvalid     = "invalid"     // what came does not verify
	resultUnreachable = "unreachable" // nothing came
)

var results = []string{resultGood, resultRevoked, resultUnknown, resultInvalid, resultUnreachable}

// target is what there is to ask about a certificate.
type target struct {
	leaf, issuer *x509.Certificate
	servers      []string
	request      []byte
}

// aim finds out whether a staple can be had for cert. An error says why not.
func aim(cert *tls.Certificate) (*target, error) {
	t := &target{leaf: cert.Leaf}
	for _, s := range cert.Leaf.OCSPServer {
		if checkURL(s) == nil && len(t.servers) < maxServers {
			t.servers = append(t.servers, s)
		}
	}
	if len(t.servers) == 0 {
		return nil, errors.New("the certificate names no OCSP responder")
	}
	if len(cert.Certificate) < 2 {
		return nil, errors.New("the chain lacks the certificate of its issuer, which verifies OCSP responses")
	}
	var err error
	if t.issuer, err = x509.ParseCertificate(cert.Certificate[1]); err != nil {
		return nil, err
	}
	if err := t.leaf.CheckSignatureFrom(t.issuer); err != nil {
		return nil, errors.New("the second certificate of the chain did not issue the first")
	}
	// SHA-1 names the issuer here and protects nothing; some responders know no other.
	if t.request, err = ocsp.CreateRequest(t.leaf, t.issuer, &ocsp.RequestOptions{Hash: crypto.SHA1}); err != nil {
		return nil, err
	}
	return t, nil
}

// mustStaple reports whether a certificate demands a staple (RFC 7633).
func mustStaple(leaf *x509.Certificate) bool {
	feature := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	for _, e := range leaf.Extensions {
		var features []int
		if e.Id.Equal(feature) {
			_, err := asn1.Unmarshal(e.Value, &features)
			return err == nil && slices.Contains(features, 5) // status_request
		}
	}
	return false
}

// staple is a verified OCSP response.
type staple struct {
	raw     []byte
	revoked bool
	from    time.Time // ThisUpdate
	until   time.Time // NextUpdate
}

// verify reads an answer; before is what is stapled already, or nil.
func (t *target) verify(raw []byte, now time.Time, before *staple) (*staple, string, error) {
	invalid := func(format string, args ...any) (*staple, string, error) {
		return nil, resultInvalid, fmt.Errorf(format, args...)
	}
	r, err := ocsp.ParseResponseForCert(raw, t.leaf, t.issuer)
	if err != nil {
		return invalid("the OCSP response does not verify: %w", err)
	}
	if c := r.Certificate; c != nil && !c.Equal(t.issuer) {
		// The library sees that the issuer made it, not what for.
		if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return invalid("the OCSP response is signed by a certificate that is not for that")
		}
		if now.Before(c.NotBefore.Add(-skew)) || now.After(c.NotAfter) {
			return invalid("the OCSP response is signed by a certificate that is not good now")
		}
	}
	switch {
	case r.ThisUpdate.After(now.Add(skew)):
		return invalid("the OCSP response is from the future")
	case r.NextUpdate.IsZero():
		return invalid("the OCSP response does not say how long it holds")
	case !r.NextUpdate.After(now), !r.NextUpdate.After(r.ThisUpdate):
		return invalid("the OCSP response has ended")
	case before != nil && r.ThisUpdate.Before(before.from):
		return invalid("the OCSP response is older than the one that is here")
	}
	s := &staple{raw: raw, from: r.ThisUpdate, until: r.NextUpdate}
	switch r.Status {
	case ocsp.Good:
		return s, resultGood, nil
	case ocsp.Revoked:
		s.revoked = true
		return s, resultRevoked, nil
	default:
		return nil, resultUnknown, errors.New("the responder does not know the certificate")
	}
}

// get asks the responders in turn.
func (t *target) get(ctx context.Context, fetch fetcher, before *staple) (s *staple, result string, err error) {
	for _, address := range t.servers {
		var raw []byte
		if raw, err = fetch(ctx, address, t.request); err != nil {
			result = resultUnreachable
			continue
		}
		if s, result, err = t.verify(raw, time.Now(), before); err == nil {
			return s, result, nil
		}
	}
	return nil, result, err
}

// renewal is when to ask again after s came: a little before half of its time,
// and where that is past (a responder that keeps answers), within what is left.
func (s *staple) renewal(now time.Time) time.Time {
	whole := s.until.Sub(s.from)
	at := s.from.Add(whole/2 - time.Duration(rand.Int64N(int64(whole/10)+1)))
	if at.After(now) {
		return at
	}
	return now.Add(max(s.until.Sub(now)/4, time.Second))
}

// retry is when to ask again after a failure.
func retry(now time.Time, fails int, s *staple) time.Time {
	wait := min(firstRetry<<min(fails, 10), lastRetry)
	if s != nil && s.until.After(now) {
		wait = min(wait, max(s.until.Sub(now)/4, firstRetry))
	}
	return now.Add(wait)
}
