// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/test/bench/operate"
)

func TestDrive(t *testing.T) {
	a, err := operate.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.NewPair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(p.Chain, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conf := Config(cert)
	conf.CurvePreferences = []tls.CurveID{tls.X25519}
	go Serve(l, conf)
	load := Load{Addr: l.Addr().String(), Group: tls.X25519, Workers: 2, Span: 200 * time.Millisecond}
	if took, err := load.Drive(t.Context()); err != nil || len(took) < 2 {
		t.Errorf("%d handshakes: %v", len(took), err)
	}
	load.Group = tls.X25519MLKEM768
	if took, err := load.Drive(t.Context()); err == nil || len(took) > 0 || !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("%d handshakes with what the server does not have: %v", len(took), err)
	}
}
