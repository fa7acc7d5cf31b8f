// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/rustyonions/macronode/internal/metrics"
)

// ca issues certificates and OCSP responses.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// spec is a certificate to issue.
type spec struct {
	serial    int64
	life      time.Duration
	begins    time.Duration
	responder string
	must      bool
	usage     []x509.ExtKeyUsage
}

func (s spec) template() *x509.Certificate {
	t := &x509.Certificate{SerialNumber: big.NewInt(s.serial), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"node"},
		NotBefore: time.Now().Add(s.begins - time.Hour), NotAfter: time.Now().Add(s.begins + s.life), ExtKeyUsage: s.usage, BasicConstraintsValid: true}
	if s.responder != "" {
		t.OCSPServer = []string{s.responder}
	}
	if s.must {
		t.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
	}
	return t
}

func sign(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCA(t testing.TB) *ca {
	t.Helper()
	key := newKey(t)
	s := spec{serial: 1, life: 1000 * time.Hour}.template()
	s.IsCA, s.KeyUsage = true, x509.KeyUsageCertSign
	return &ca{sign(t, s, s, key.Public(), key), key}
}

func (a *ca) issue(t testing.TB, s spec) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := sign(t, s.template(), a.cert, key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// answer is an OCSP response signed by the issuer, or by a delegate.
func (a *ca) answer(t testing.TB, leaf *x509.Certificate, status int, from, until time.Time, delegate *tls.Certificate) []byte {
	t.Helper()
	r := ocsp.Response{Status: status, SerialNumber: leaf.SerialNumber, ThisUpdate: from, NextUpdate: until, RevokedAt: from}
	by, key := a.cert, a.key
	if delegate != nil {
		r.Certificate, by, key = delegate.Leaf, delegate.Leaf, delegate.PrivateKey.(crypto.Signer)
	}
	b, err := ocsp.CreateResponse(a.cert, by, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVerify(t *testing.T) {
	a, stranger := newCA(t), newCA(t)
	cert := a.issue(t, spec{serial: 7, life: 100 * time.Hour, responder: "http://r.example/"})
	other := a.issue(t, spec{serial: 8, life: time.Hour})
	target, err := aim(cert)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	from, until := now.Add(-time.Hour), now.Add(time.Hour)
	signing := []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	good := a.answer(t, cert.Leaf, ocsp.Good, from, until, nil)
	for _, c := range []struct {
		name   string
		raw    []byte
		before *staple
		result string
	}{
		{"good", good, nil, resultGood},
		{"good again", good, &staple{from: from.Truncate(time.Minute), until: until}, resultGood},
		{"by a delegate", a.answer(t, cert.Leaf, ocsp.Good, from, until, a.issue(t, spec{serial: 9, life: time.Hour, usage: signing})), nil, resultGood},
		{"revoked", a.answer(t, cert.Leaf, ocsp.Revoked, from, until, nil), nil, resultRevoked},
		{"unknown", a.answer(t, cert.Leaf, ocsp.Unknown, from, until, nil), nil, resultUnknown},
		{"by another issuer", stranger.answer(t, cert.Leaf, ocsp.Good, from, until, nil), nil, resultInvalid},
		{"by another issuer's delegate", a.answer(t, cert.Leaf, ocsp.Good, from, until, stranger.issue(t, spec{serial: 9, life: time.Hour, usage: signing})), nil, resultInvalid},
		{"by a certificate for something else", a.answer(t, cert.Leaf, ocsp.Good, from, until, a.issue(t, spec{serial: 9, life: time.Hour})), nil, resultInvalid},
		{"by a delegate that has ended", a.answer(t, cert.Leaf, ocsp.Good, from, until, a.issue(t, spec{serial: 9, life: -time.Minute, usage: signing})), nil, resultInvalid},
		{"by the certificate itself", a.answer(t, cert.Leaf, ocsp.Good, from, until, cert), nil, resultInvalid},
		{"for another certificate", a.answer(t, other.Leaf, ocsp.Good, from, until, nil), nil, resultInvalid},
		{"that has ended", a.answer(t, cert.Leaf, ocsp.Good, from, now.Add(-time.Minute), nil), nil, resultInvalid},
		{"from the future", a.answer(t, cert.Leaf, ocsp.Good, now.Add(time.Hour), now.Add(2*time.Hour), nil), nil, resultInvalid},
		{"that ends before it begins", a.answer(t, cert.Leaf, ocsp.Good, now.Add(4*time.Minute), now.Add(2*time.Minute), nil), nil, resultInvalid},
		{"without an end", a.answer(t, cert.Leaf, ocsp.Good, from, time.Time{}, nil), nil, resultInvalid},
		{"older than the last", good, &staple{from: now, until: until}, resultInvalid},
		{"empty", nil, nil, resultInvalid},
		{"cut off", good[:len(good)-1], nil, resultInvalid},
		{"try later", ocsp.TryLaterErrorResponse, nil, resultInvalid},
	} {
		s, result, err := target.verify(c.raw, now, c.before)
		if result != c.result || (s != nil) != (result == resultGood || result == resultRevoked) || (err == nil) != (s != nil) {
			t.Errorf("%s: %s %v", c.name, result, err)
		}
		if s != nil && s.revoked != (result == resultRevoked) {
			t.Errorf("%s: revoked %v", c.name, s.revoked)
		}
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x20
		if s, _, err := target.verify(bad, now, nil); err == nil && s.revoked {
			t.Fatalf("a flipped bit at %d changed the answer", i)
		}
	}
}

func FuzzVerify(f *testing.F) {
	a := newCA(f)
	cert := a.issue(f, spec{serial: 7, life: 100 * time.Hour, responder: "http://r.example/"})
	target, err := aim(cert)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	f.Add(a.answer(f, cert.Leaf, ocsp.Good, now.Add(-time.Hour), now.Add(time.Hour), nil))
	f.Add(ocsp.MalformedRequestErrorResponse)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, result, err := target.verify(b, now, nil); (s == nil) == (err == nil) || result == "" {
			t.Errorf("%v %q %v", s, result, err)
		} else if s != nil {
			s.renewal(now)
		}
	})
}

// responder answers as it is told, and counts.
type responder struct {
	mu     sync.Mutex
	answer func() ([]byte, error)
	asked  int
}

func (r *responder) fetch(context.Context, string, []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return r.answer()
}

func (r *responder) set(answer func() ([]byte, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.asked = answer, 0
}

func (r *responder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// keep runs a keeper until the test's bubble ends.
func keep(t *testing.T, c Config) *Keeper {
	t.Helper()
	c.Metrics = metrics.New(false)
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return k
}

func (k *Keeper) use(t *testing.T, cert *tls.Certificate, staple bool) {
	t.Helper()
	c, err := k.Prepare(t.Context(), cert, staple)
	if err != nil {
		t.Fatal(err)
	}
	k.Use(c)
	synctest.Wait()
}

// TestStapleLives: a staple is renewed before half of its time is over, survives
// the responder's absence to its own end and no longer, and comes back.
func TestStapleLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := newCA(t), &responder{}
		cert := a.issue(t, spec{serial: 7, life: 1000 * time.Hour, responder: "http://r.example/"})
		good := func() ([]byte, error) {
			now := time.Now()
			return a.answer(t, cert.Leaf, ocsp.Good, now, now.Add(10*time.Hour), nil), nil
		}
		r.set(good)
		k := keep(t, Config{Fetch: r.fetch})
		k.use(t, cert, true)
		first := k.Now().OCSPStaple
		if first == nil || r.count() != 1 || k.Now().Leaf != cert.Leaf || k.Ready(t.Context()) != nil {
			t.Fatalf("no staple after %d fetches: %v", r.count(), k.Ready(t.Context()))
		}
		<-time.After(5*time.Hour + time.Second)
		synctest.Wait()
		if r.count() != 2 || string(k.Now().OCSPStaple) == string(first) {
			t.Errorf("%d fetches in the first half", r.count())
		}
		renewed := k.Now().OCSPStaple
		r.set(func() ([]byte, error) { return nil, errors.New("away") })
		<-time.After(8 * time.Hour)
		synctest.Wait()
		if string(k.Now().OCSPStaple) != string(renewed) || r.count() < 3 || k.Ready(t.Context()) != nil {
			t.Errorf("while the responder is away: %d fetches, %v", r.count(), k.Ready(t.Context()))
		}
		<-time.After(2*time.Hour + time.Minute)
		synctest.Wait()
		if k.Now() == nil || k.Now().OCSPStaple != nil || k.Ready(t.Context()) == nil {
			t.Errorf("a staple outlived its end: %v", k.Ready(t.Context()))
		}
		if n := r.count(); n > 40 {
			t.Errorf("%d fetches while the responder was away", n)
		}
		r.set(good)
		<-time.After(lastRetry)
		synctest.Wait()
		if k.Now().OCSPStaple == nil || k.Ready(t.Context()) != nil {
			t.Errorf("the responder is back: %v", k.Ready(t.Context()))
		}
		// The issuer takes the certificate back, and an old answer does not undo it.
		old := k.Now().OCSPStaple
		r.set(func() ([]byte, error) {
			return a.answer(t, cert.Leaf, ocsp.Revoked, time.Now(), time.Now().Add(10*time.Hour), nil), nil
		})
		<-time.After(5 * time.Hour)
		synctest.Wait()
		if string(k.Now().OCSPStaple) == string(old) || k.Ready(t.Context()) == nil || !strings.Contains(k.Ready(t.Context()).Error(), "revoked") {
			t.Errorf("revoked: %v", k.Ready(t.Context()))
		}
		revoked := k.Now().OCSPStaple
		r.set(func() ([]byte, error) { return old, nil })
		<-time.After(5 * time.Hour)
		synctest.Wait()
		if string(k.Now().OCSPStaple) != string(revoked) || r.count() == 0 {
			t.Error("an older answer took the place of a newer")
		}
	})
}

// TestRotation: a new certificate is taken up by itself, its staple is its own, a
// bad one is refused while the old one stays.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := newCA(t), &responder{}
		one := a.issue(t, spec{serial: 7, life: 1000 * time.Hour, responder: "http://r.example/"})
		two := a.issue(t, spec{serial: 8, life: 1000 * time.Hour})
		var mu sync.Mutex
		fresh, broken := one, error(nil)
		offer := func(c *tls.Certificate, err error) {
			mu.Lock()
			fresh, broken = c, err
			mu.Unlock()
			<-time.After(renewEvery + time.Second)
			synctest.Wait()
		}
		r.set(func() ([]byte, error) {
			return a.answer(t, one.Leaf, ocsp.Good, time.Now(), time.Now().Add(time.Hour), nil), nil
		})
		k := keep(t, Config{Fetch: r.fetch, Renew: func(context.Context) (*tls.Certificate, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return fresh, true, broken
		}})
		if k.Now() != nil || k.expiry() < 1e300 {
			t.Error("a certificate before there is one")
		}
		k.use(t, one, true)
		if k.Now().OCSPStaple == nil {
			t.Fatal("no staple")
		}
		offer(two, nil)
		if k.Now().Leaf != two.Leaf || k.Now().OCSPStaple != nil {
			t.Errorf("serial %v is served, stapled %v", k.Now().Leaf.SerialNumber, k.Now().OCSPStaple != nil)
		}
		offer(nil, errors.New("the certificate is not for the key"))
		if k.Now().Leaf != two.Leaf || k.Ready(t.Context()) == nil {
			t.Error("a broken certificate had an effect, or none was told")
		}
		offer(a.issue(t, spec{serial: 9, life: -time.Minute}), nil)
		if k.Now().Leaf != two.Leaf {
			t.Error("a certificate that has ended was taken up")
		}
		offer(a.issue(t, spec{serial: 9, life: time.Hour, begins: 2 * time.Hour}), nil)
		if k.Now().Leaf != two.Leaf {
			t.Error("a certificate that has not begun was taken up")
		}
		offer(two, nil)
		if err := k.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		k.use(t, nil, false)
		if k.Now() != nil {
			t.Error("a certificate without TLS")
		}
	})
}

func TestExpiryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCA(t)
		k := keep(t, Config{})
		k.use(t, a.issue(t, spec{serial: 7, life: 60 * 24 * time.Hour}), false)
		for _, c := range []struct {
			after time.Duration
			says  string
		}{{0, ""}, {45 * 24 * time.Hour, ""}, {2 * 24 * time.Hour, "ends at"}, {14 * 24 * time.Hour, "ended at"}} {
			<-time.After(c.after)
			err := k.Ready(t.Context())
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v later: %v", c.after, err)
			}
		}
		if s := k.expiry(); s > -0.9*24*3600 || s < -1.1*24*3600 {
			t.Errorf("it ended %v seconds ago", -s)
		}
		// An ended one may be replaced by any: it cannot become worse.
		k.use(t, a.issue(t, spec{serial: 8, life: -time.Minute}), false)
	})
}

// A certificate that demands a staple has one from its first handshake on, and is
// refused where it never could.
func TestMustStaple(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := newCA(t), &responder{}
		cert := a.issue(t, spec{serial: 7, life: 1000 * time.Hour, responder: "http://r.example/", must: true})
		r.set(func() ([]byte, error) {
			return a.answer(t, cert.Leaf, ocsp.Good, time.Now(), time.Now().Add(time.Hour), nil), nil
		})
		k := keep(t, Config{Fetch: r.fetch})
		if _, err := k.Prepare(t.Context(), cert, false); err == nil {
			t.Error("taken without stapling")
		}
		if _, err := k.Prepare(t.Context(), a.issue(t, spec{serial: 8, life: time.Hour, must: true}), true); err == nil {
			t.Error("taken without a responder")
		}
		alone := *cert
		alone.Certificate = alone.Certificate[:1]
		if _, err := k.Prepare(t.Context(), &alone, true); err == nil {
			t.Error("taken without its issuer")
		}
		c, err := k.Prepare(t.Context(), cert, true)
		if err != nil || c.staple == nil || r.count() != 1 {
			t.Fatalf("%v, %d fetches", err, r.count())
		}
		k.Use(c)
		if k.Now().OCSPStaple == nil {
			t.Error("the first handshake has no staple")
		}
		r.set(func() ([]byte, error) { return nil, errors.New("away") })
		<-time.After(2 * time.Hour)
		if err := k.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "demands") {
			t.Errorf("%v", err)
		}
	})
}

func TestFetchIsBounded(t *testing.T) {
	mode := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.Header.Get("Content-Type") != "application/ocsp-request" || string(b) != "request" {
			t.Errorf("%s %v %q", r.Method, r.Header, b)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		switch mode {
		case "status":
			w.WriteHeader(500)
		case "type":
			w.Header().Set("Content-Type", "text/html")
		case "redirect":
			if r.URL.Path != "/elsewhere" {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
				return
			}
		case "large":
			w.Write(make([]byte, maxAnswer+1))
			return
		case "header":
			w.Header().Set("X", strings.Repeat("x", 32<<10))
		case "slow":
			<-r.Context().Done()
		}
		io.WriteString(w, "answer")
	}))
	defer srv.Close()
	if b, err := Fetch(t.Context(), srv.URL, []byte("request")); err != nil || string(b) != "answer" {
		t.Errorf("%q %v", b, err)
	}
	for _, mode = range []string{"status", "type", "redirect", "large", "header", "slow"} {
		ctx := t.Context()
		if mode == "slow" {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
		}
		if _, err := Fetch(ctx, srv.URL, []byte("request")); err == nil {
			t.Errorf("%s was taken", mode)
		}
	}
	for _, bad := range []string{"", "ftp://r.example/", "file:///etc/passwd", "http://", "http://u:p@r.example/", "ldap://r", "http://r.example/#x", "http://" + strings.Repeat("r", maxURL)} {
		if checkURL(bad) == nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
	for addr, ok := range map[string]bool{"127.0.0.1:80": true, "10.1.2.3:80": true, "[2001:db8::1]:80": true, "169.254.169.254:80": false,
		"[fe80::1%eth0]:80": false, "[::ffff:169.254.169.254]:80": false, "0.0.0.0:80": false, "[::]:80": false, "224.0.0.1:80": false,
		"255.255.255.255:80": false, "[fd00:ec2::254]:80": false, "name:80": false} {
		if err := checkAddr(addr); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := Fetch(t.Context(), "http://169.254.169.254/", nil); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("link-local: %v", err)
	}
}

func TestInspect(t *testing.T) {
	a := newCA(t)
	year := 8760 * time.Hour
	for _, c := range []struct {
		name          string
		spec          spec
		staple        bool
		fault, warned bool
	}{
		{"good", spec{serial: 1, life: year}, false, false, false},
		{"good, with a responder", spec{serial: 1, life: year, responder: "http://r.example/"}, true, false, false},
		{"without a responder", spec{serial: 1, life: year}, true, false, true},
		{"a responder that cannot be asked", spec{serial: 1, life: year, responder: "ldap://r.example/"}, true, false, true},
		{"about to end", spec{serial: 1, life: 10 * time.Minute}, false, false, true},
		{"ended", spec{serial: 1, life: -time.Minute}, false, true, true},
		{"not begun", spec{serial: 1, life: time.Hour, begins: 2 * time.Hour}, false, true, true},
		{"demanding", spec{serial: 1, life: year, must: true}, false, true, false},
		{"demanding in vain", spec{serial: 1, life: year, must: true}, true, true, true},
		{"demanding, with a responder", spec{serial: 1, life: year, must: true, responder: "http://r.example/"}, true, false, false},
	} {
		fault, warning := Inspect(a.issue(t, c.spec), c.staple)
		if (fault != nil) != c.fault || (warning != nil) != c.warned {
			t.Errorf("%s: %v, %v", c.name, fault, warning)
		}
	}
}
