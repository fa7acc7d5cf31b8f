// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"object/b3:" + strings.Repeat("0f", 32): "object/b3:" + strings.Repeat("0f", 32),
		"topic/ron1_pAECAw-_x/y":                "topic/[redacted]", // a slash may be of its base64
		"ron1_a ron1_":                          "[redacted] [redacted]",
		"from 192.0.2.77:443":                   "from 192.0.2.0/24:443",
		"192.0.2.0/24":                          "192.0.2.0/24",
		"192.0.2.1/32":                          "192.0.2.0/24",
		"[2001:db8:1:2:3::4]:80":                "[2001:db8:1:2::/64]:80",
		"2001:db8::/48":                         "2001:db8::/48",
		"fe80::1%eth0":                          "fe80::/64",
		"::ffff:192.0.2.9":                      "192.0.2.0/24",
		"1.2.3":                                 "1.2.3",
		"999.1.1.1":                             "999.1.1.1",
		"12:30:45":                              "12:30:45",
		"cap:0123456789abcdef":                  "cap:0123456789abcdef",
		"":                                      "",
	} {
		got, n := redact(in)
		if got != want || (n > 0) != (got != in) {
			t.Errorf("%q became %q with %d taken, want %q", in, got, n, want)
		}
	}
}

// What a caller put where it does not belong is not on record, and that it was
// taken out is, in the record and in the metrics.
func TestRecordsAreRedacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.serve(t)
		secret := "ron1_" + strings.Repeat("s3cret", 20)
		if err := w.Append(t.Context(), macronode.AuditEvent{Stream: "node", Kind: "x", Actor: "by 203.0.113.77", Subject: "key/" + secret,
			Attrs: map[string]any{secret: "a", "b": secret + " " + secret, "c": 5}}); err != nil {
			t.Fatal(err)
		}
		w.stop()
		rs := w.records(t)
		if len(rs) != 1 || rs[0].Attrs[redactedAttr] != int64(5) || rs[0].Actor != "by 203.0.113.0/24" || rs[0].Attrs["c"] != int64(5) {
			t.Errorf("%+v", rs)
		}
		w.wantMetric(t, "audit_redacted_total 5")
		if strings.Contains(w.out.String(), "s3cret") || strings.Contains(w.out.String(), "113.77") {
			t.Error("the line of the log tells it")
		}
	})
}

// What must be kept waits for a place in the queue, and is not folded; data access is
// shed meanwhile.
func TestWhatMustBeKeptIsNotShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.SetSettings(Settings{CollapseAbove: 1})
		w.Record(event(0))
		w.Record(event(1))
		must := event(2)
		must.Must, must.Reason = true, "denied"
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			for range 3 {
				w.Record(must)
			}
		}()
		synctest.Wait()
		w.Record(event(3)) // shed
		select {
		case <-kept:
			t.Fatal("there was no place")
		case <-time.After(patience / 2):
		}
		w.serve(t)
		<-kept
		w.stop()
		count := map[string]int{}
		for _, r := range w.records(t) {
			count[r.Subject]++
		}
		if count["object/2"] != 3 || count["object/3"] != 0 || count["object/0"] != 1 {
			t.Errorf("%v", count)
		}
		w.wantMetric(t, "audit_shed_total 1")
	})
}

// Where the disk is full, what must be kept uses the space that is kept for it.
func TestReserveIsForWhatMustBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 100)
		full := errors.New("full")
		w.log.reserved = func(reserve bool) error {
			if reserve {
				return nil
			}
			return full
		}
		w.serve(t)
		must := event(1)
		must.Must = true
		w.Record(event(0))
		w.Record(must)
		if err := w.Append(t.Context(), event(2)); err != nil {
			t.Fatal(err)
		}
		w.stop()
		var subjects []string
		for _, r := range w.records(t) {
			subjects = append(subjects, r.Kind+" "+r.Subject)
		}
		if got := strings.Join(subjects, ", "); !strings.HasPrefix(got, "object.put object/1, object.put object/2") || strings.Contains(got, "object/0") {
			t.Errorf("%s", got)
		}
	})
}
