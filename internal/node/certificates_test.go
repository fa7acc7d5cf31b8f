// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

var tlsKey = bundle.Ref{Kind: bundle.RefKey, Name: datadir.KeyTLS}

// dialTLS makes a handshake and returns the connection with the serial number of
// the certificate that was served.
func (n *Node) dialTLS(tb testing.TB, c *tls.Config) (*tls.Conn, string, error) {
	tb.Helper()
	if c == nil {
		c = &tls.Config{InsecureSkipVerify: true} // the serial number is looked at
	}
	conn, err := tls.Dial("tcp", n.httpSet.Addrs()[endpointHTTP].String(), c)
	if err != nil {
		return nil, "", err
	}
	tb.Cleanup(func() { conn.Close() })
	return conn, conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16), nil
}

func (n *Node) serial(tb testing.TB) string {
	tb.Helper()
	_, serial, err := n.dialTLS(tb, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return serial
}

// rotate makes a new version of the TLS key.
func (n *Node) rotate(tb testing.TB) {
	tb.Helper()
	if _, _, _, err := n.keys.Rotate(tb.Context(), kms.Spec{Name: datadir.KeyTLS}); err != nil {
		tb.Fatal(err)
	}
}

// certifyKey puts a chain for the newest version of the TLS key.
func (n *Node) certifyKey(tb testing.TB) {
	tb.Helper()
	text, err := n.keys.SelfSigned(tlsKey, kms.PurposeTLS, kms.CertSpec{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		tb.Fatal(err)
	}
	n.putObject(tb, datadir.ObjCertChain, text)
}

func (n *Node) putObject(tb testing.TB, name string, text []byte) {
	tb.Helper()
	if _, _, err := n.keys.PutObject(tb.Context(), name, 0, text); err != nil {
		tb.Fatal(err)
	}
}

// stream is an upload on a connection of its own that is under way until it is
// told to end.
type stream struct {
	w    *io.PipeWriter
	done chan error
}

// upload opens one; h2: over HTTP/2.
func (n *Node) upload(tb testing.TB, i int, h2 bool) *stream {
	tb.Helper()
	pr, pw := io.Pipe()
	s := &stream{w: pw, done: make(chan error, 1)}
	var dials atomic.Int32
	tr := &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	tr.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			return nil, errors.New("the connection was not kept")
		}
		c := tr.TLSClientConfig.Clone()
		if h2 {
			c.NextProtos = []string{"h2"}
		}
		return (&tls.Dialer{Config: c}).DialContext(ctx, network, addr)
	}
	tb.Cleanup(tr.CloseIdleConnections)
	req, err := http.NewRequestWithContext(tb.Context(), "POST", n.endpoints().HTTP+"/o", pr)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token(tb, datadir.TenantCapName))
	go func() {
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 201 {
				err = fmt.Errorf("%s", resp.Status)
			}
		}
		pr.CloseWithError(errors.New("over"))
		s.done <- err
	}()
	s.piece(tb, i)
	return s
}

func (s *stream) piece(tb testing.TB, i int) {
	tb.Helper()
	if _, err := s.w.Write(bytes.Repeat([]byte{byte(i)}, 10_000)); err != nil {
		tb.Fatalf("upload %d broke: %v", i, <-s.done)
	}
}

// TestCertificateRotation: three new keys and certificates, while uploads are under
// way and requests come on old and new connections. Not one fails, no connection
// is lost, and each new handshake has the newest.
func TestCertificateRotation(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	var others sync.WaitGroup
	for i := range 4 {
		// Of these the first two keep their connection, the others make a new one
		// for each request, one of them by session ticket.
		tr := &http.Transport{ForceAttemptHTTP2: i == 0, DisableKeepAlives: i >= 2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}}
		t.Cleanup(tr.CloseIdleConnections)
		others.Go(func() {
			for ctx.Err() == nil {
				resp, err := (&http.Client{Transport: tr}).Get(n.endpoints().HTTP + "/healthz")
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				if resp.Body.Close(); resp.StatusCode != 200 {
					t.Errorf("client %d: %s", i, resp.Status)
				}
				asked.Add(1)
			}
		})
	}
	var uploads []*stream
	for i := range 8 {
		uploads = append(uploads, n.upload(t, i, i%2 == 0))
	}
	last := n.serial(t)
	for round := range 3 {
		before := asked.Load()
		n.rotate(t)
		if n.serial(t) != last {
			t.Error("the key alone changed what is served")
		}
		if _, err := n.Reload(t.Context()); err != nil {
			t.Errorf("a reload between key and chain: %v", err)
		}
		n.certifyKey(t)
		if _, err := n.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		fresh := n.serial(t)
		if fresh == last {
			t.Errorf("round %d: the old certificate is served", round)
		}
		last = fresh
		for i, u := range uploads {
			u.piece(t, i)
		}
		poll(t, "requests in this round", func() bool { return asked.Load() > before+20 || t.Failed() })
	}
	for i, u := range uploads {
		u.piece(t, i)
		u.w.Close()
		if err := <-u.done; err != nil {
			t.Errorf("upload %d: %v", i, err)
		}
	}
	cancel()
	others.Wait()
	t.Logf("%d requests over 3 rotations", asked.Load())
	// A chain for another key is refused where it is put, and at a reload that names
	// it; nothing changes.
	if _, _, err := n.keys.PutObject(t.Context(), datadir.ObjCertChain, 0, strangeChain(t)); err == nil {
		t.Error("a chain for another key was put in place")
	}
	n.putObject(t, "another", strangeChain(t))
	edit(t, o, "KMS:obj/"+datadir.ObjCertChain, "KMS:obj/another")
	if _, err := n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "is not for") {
		t.Errorf("a chain for another key: %v", err)
	}
	if n.serial(t) != last {
		t.Error("a refused chain is served")
	}
}

// strangeChain is a certificate of nobody's key here, in PEM.
func strangeChain(tb testing.TB) []byte {
	tb.Helper()
	c := clientCert(tb, nil, "stranger", time.Hour)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

// clientCert makes a certificate, an authority's where by is nil.
func clientCert(tb testing.TB, by *tls.Certificate, name string, life time.Duration) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(life), IsCA: by == nil, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	parent, signer := tmpl, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestClientCAReload: who may connect changes for the next handshake, resumed ones
// too; who is connected stays.
func TestClientCAReload(t *testing.T) {
	o := production(t, provision.TLSSelfSigned)
	n := begin(t, o)
	one, two := clientCert(t, nil, "one", time.Hour), clientCert(t, nil, "two", time.Hour)
	inPEM := func(c *tls.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	}
	n.putObject(t, "client_ca", inPEM(one))
	edit(t, o, "tls = {", `tls = { client_ca = "KMS:obj/client_ca", client_auth = "require",`)
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	with := func(by *tls.Certificate, cache tls.ClientSessionCache) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "localhost", Certificates: []tls.Certificate{*clientCert(t, by, "client", time.Hour)}}
	}
	healthy := func(c *tls.Conn) error {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			return err
		}
		b := make([]byte, 4096)
		k, err := c.Read(b)
		if err == nil && !bytes.HasPrefix(b[:k], []byte("HTTP/1.1 200")) {
			err = fmt.Errorf("%q", b[:k])
		}
		return err
	}
	cache := tls.NewLRUClientSessionCache(4)
	old := with(one, cache)
	kept, _, err := n.dialTLS(t, old)
	if err == nil {
		err = healthy(kept)
	}
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := n.dialTLS(t, old)
	if err != nil || !again.ConnectionState().DidResume {
		t.Fatalf("no session to resume: %v", err)
	}
	n.putObject(t, "client_ca", inPEM(two))
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := healthy(kept); err != nil {
		t.Errorf("a connection was lost: %v", err)
	}
	for name, c := range map[string]*tls.Config{"a resumed session": old, "a new one": with(one, nil)} {
		conn, _, err := n.dialTLS(t, c)
		if err == nil {
			err = healthy(conn)
		}
		if err == nil {
			t.Errorf("%s of the old authority was let in", name)
		}
	}
	conn, _, err := n.dialTLS(t, with(two, nil))
	if err == nil {
		err = healthy(conn)
	}
	if err != nil {
		t.Errorf("the new authority: %v", err)
	}
	n.putObject(t, "client_ca", []byte("no certificate"))
	if _, err := n.Reload(t.Context()); err == nil {
		t.Error("a client_ca without certificates was taken")
	}
}
