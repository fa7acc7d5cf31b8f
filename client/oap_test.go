// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client/internal/oapserve"
	"github.com/rustyonions/macronode/client/internal/optable"
)

// oapNode listens for OAP/1, with TLS where conf is not nil.
func oapNode(t *testing.T, conf *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	s := oapserve.New(oapserve.Config{Handler: h, Table: optable.New(nil)})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return ln.Addr().String()
}

// TestOAPOverTLS: TLS 1.3 with the authority that was given, or nothing at all.
func TestOAPOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	pair := web.TLS.Certificates[0]
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	var calls atomic.Int32
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+testToken {
			calls.Add(1)
		}
		w.Write([]byte("{}"))
	}
	secure := oapNode(t, &tls.Config{Certificates: []tls.Certificate{pair}}, h)
	old := oapNode(t, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12}, h)
	plain := oapNode(t, nil, h)
	for name, tc := range map[string]struct {
		node string
		o    Options
		want string // of the error; "": none
	}{
		"by its authority":         {"oaps://" + secure, Options{CA: pool}, ""},
		"an authority means TLS":   {"oap://" + secure, Options{CA: pool}, ""},
		"any certificate":          {"oaps://" + secure, Options{InsecureTLS: true}, ""},
		"plain":                    {"oap://" + plain, Options{}, ""},
		"plain, said so":           {"oap+plain://" + plain, Options{CA: pool}, ""},
		"an unknown authority":     {"oaps://" + secure, Options{}, "certificate"},
		"an older TLS":             {"oaps://" + old, Options{CA: pool}, "protocol version"},
		"TLS where there is none":  {"oaps://" + plain, Options{CA: pool}, "oap+plain://"},
		"plain where there is TLS": {"oap://" + secure, Options{}, "oaps://"},
	} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			tc.o.Token, tc.o.UserAgent = testToken, "test"
			c, err := Dial(tc.node, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.List(t.Context(), "", "", 0)
			if tc.want == "" {
				if err != nil || calls.Load() != 1 {
					t.Errorf("%v, %d calls", err, calls.Load())
				}
				return
			}
			// That a connection just ends may be a restart, and is tried again.
			hopeless := tc.want != "oaps://"
			if err == nil || !strings.Contains(err.Error(), tc.want) || calls.Load() != 0 || hopeless && c.Stats().Retries != 0 {
				t.Errorf("%v, %d calls, %+v; want %q", err, calls.Load(), c.Stats(), tc.want)
			}
		})
	}
}

// TestOAPPlaintext is TestNoPlaintextCapability over OAP/1.
func TestOAPPlaintext(t *testing.T) {
	var calls, dialled atomic.Int32
	here := oapNode(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Write([]byte("{}"))
	})
	far := func(ctx context.Context, _ string) (net.Conn, error) {
		dialled.Add(1)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", here)
		return elsewhere{conn}, err
	}
	for _, tc := range []struct {
		node          string
		token         string
		plaintext     bool
		dialled, want int32
	}{
		{"oap+plain://192.0.2.1:80", testToken, false, 0, 0},
		{"oap+plain://node.example:80", testToken, false, 1, 0},
		{"oap://localhost:80", testToken, false, 1, 0},
		{"oap+plain://192.0.2.1:80", testToken, true, 1, 1},
		{"oap+plain://192.0.2.1:80", "", false, 1, 1},
	} {
		calls.Store(0)
		dialled.Store(0)
		c, err := Dial(tc.node, Options{Token: tc.token, Plaintext: tc.plaintext, DialTCP: far})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.List(t.Context(), "", "", 0)
		if refused := errors.Is(err, ErrPlaintext); refused != (tc.want == 0) || calls.Load() != tc.want || dialled.Load() != tc.dialled || c.Stats().Retries != 0 {
			t.Errorf("%+v: %v, %d calls, %d connections", tc, err, calls.Load(), dialled.Load())
		}
		c.Close()
	}
}

// TestEndlessSharesNoLink: what is sent where the node's clock is not known shares
// no link with what somebody narrows by hand for the same, which may be revoked.
func TestEndlessSharesNoLink(t *testing.T) {
	whole := mintedToken(t)
	n, err := newNarrower(&Options{Token: whole.Text()})
	if err != nil {
		t.Fatal(err)
	}
	s := n.of("GET", "/v1/objects")
	if !n.heed(s, "expired", http.Header{}) || n.heed(n.of("GET", "/v1/objects"), "expired", http.Header{}) {
		t.Error("without a clock it is worth one more try, and no more")
	}
	sent, err := capability.Parse(n.of("GET", "/v1/objects").token)
	if err != nil {
		t.Fatal(err)
	}
	first, err := whole.Attenuate(sent.Caveats()[0])
	if err != nil {
		t.Fatal(err)
	}
	byHand, err := whole.Attenuate(capability.OnActions("object:list"))
	if err != nil {
		t.Fatal(err)
	}
	if first.LeafID() == byHand.LeafID() || len(sent.Caveats()) != 3 {
		t.Errorf("the caveats are %v", sent.Caveats())
	}
	for _, cv := range sent.Caveats() {
		if cv.Type() == capability.Exp {
			t.Error("it still ends")
		}
	}
}
