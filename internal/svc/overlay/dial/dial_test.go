// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package dial

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/rustyonions/macronode/revocation"
)

func nodeKey(t *testing.T) (*tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, revocation.NodeID(spki)
}

// serve greets every TLS connection with one byte and the key that it showed.
func serve(t *testing.T, conf *tls.Config) (addr string, shown <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	ids := make(chan string, 8)
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				c := tls.Server(raw, conf)
				if c.Handshake() != nil {
					return
				}
				if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
					ids <- revocation.NodeID(certs[0].RawSubjectPublicKeyInfo)
				}
				c.Write([]byte{1})
			}()
		}
	}()
	return ln.Addr().String(), ids
}

func TestDial(t *testing.T) {
	own, ownID := nodeKey(t)
	theirs, theirID := nodeKey(t)
	other, otherID := nodeKey(t)
	conf := func(cert *tls.Certificate, proto string, groups ...tls.CurveID) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{*cert}, CurvePreferences: groups, ClientAuth: tls.RequireAnyClientCert}
		if proto != "" {
			c.NextProtos = []string{proto}
		}
		return c
	}
	d := &Dialer{Certificate: func() *tls.Certificate { return own }}
	addr, shown := serve(t, conf(theirs, Proto))
	c, err := d.Dial(t.Context(), addr, theirID)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if id := <-shown; id != ownID {
		t.Error("another key than the node's was shown")
	}
	if st := c.(*tls.Conn).ConnectionState(); st.Version != tls.VersionTLS13 || st.CurveID != tls.X25519MLKEM768 {
		t.Errorf("%x %v", st.Version, st.CurveID)
	}

	if _, err := d.Dial(t.Context(), addr, otherID); !errors.Is(err, ErrImpostor) {
		t.Errorf("another node's key is taken: %v", err)
	}
	impostor, _ := serve(t, conf(other, Proto))
	if _, err := d.Dial(t.Context(), impostor, theirID); !errors.Is(err, ErrImpostor) {
		t.Errorf("an impostor is taken: %v", err)
	}
	plain, _ := serve(t, conf(theirs, ""))
	if _, err := d.Dial(t.Context(), plain, theirID); !errors.Is(err, ErrClassical) {
		t.Errorf("a listener that shows its key to clients is taken for a peer: %v", err)
	}
	weak, _ := serve(t, conf(theirs, Proto, tls.X25519))
	if _, err := d.Dial(t.Context(), weak, theirID); err == nil {
		t.Error("a classical key exchange is taken")
	}
	none := &Dialer{Certificate: func() *tls.Certificate { return nil }}
	if _, err := none.Dial(t.Context(), addr, theirID); err == nil {
		t.Error("dialled without a key")
	}
}

// One that accepts and says nothing holds nobody up for long.
func TestSilence(t *testing.T) {
	own, id := nodeKey(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := &Dialer{Certificate: func() *tls.Certificate { return own }}
	if _, err := d.Dial(t.Context(), ln.Addr().String(), id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
