// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUnixSocket(t *testing.T) {
	s, _ := newSet(t, wide())
	path := filepath.Join(t.TempDir(), "s")
	me := uint32(os.Getuid())
	unixEnd := Endpoint{Name: "uds", Network: "unix", Addr: path, AllowUIDs: []uint32{me}, StallTimeout: patience}
	apply(t, s, unixEnd)
	st, err := os.Lstat(path)
	if err != nil || st.Mode().Perm() != 0o600 || st.Mode()&os.ModeSocket == 0 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	v := s.View()
	defer v.Close()
	c, err := DialUnix(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := ConnOf(accept(t, v)).Peer(); !p.UDS || p.UID != me || p.Addr.IsValid() {
		t.Errorf("%+v", p)
	}
	// Another user alone may connect now: nobody here can.
	unixEnd.AllowUIDs = []uint32{me + 1}
	apply(t, s, unixEnd)
	c, err = DialUnix(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	ended(t, c)
	if n := value(t, s.conf.Metrics.refused.WithLabelValues("http", refusedUID)); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	// A second node finds it in use and leaves it alone.
	other, _ := newSet(t, wide())
	if err := other.Apply([]Endpoint{unixEnd}); !errors.Is(err, errSocketInUse) {
		t.Errorf("taken over: %v", err)
	}
	closeNow(s)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestUnixSocketLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close() // as kill -9 would
	e := Endpoint{Name: "uds", Network: "unix", Addr: path, AllowUIDs: []uint32{0}, StallTimeout: patience}
	first, _ := newSet(t, wide())
	apply(t, first, e)
	// Whoever took the path over keeps it when its earlier owner ends.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, _ := newSet(t, wide())
	apply(t, second, e)
	closeNow(first)
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's socket was removed: %v", err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Addr = file
	if err := second.Apply([]Endpoint{e}); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	e.Addr = filepath.Join(deep, "admin.sock")
	apply(t, second, e)
	c, err := DialUnix(context.Background(), e.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	e.Addr = filepath.Join(deep, strings.Repeat("n", 100))
	if err := second.Apply([]Endpoint{e}); err == nil {
		t.Error("a name that no address holds was taken")
	}
}
