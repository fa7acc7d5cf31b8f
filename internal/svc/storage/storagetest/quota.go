// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/rustyonions/macronode"
)

// quotaRace: however many put at once, the quota is never passed by a byte,
// and what is refused leaves nothing.
func quotaRace(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	d.Serve()
	tn.Quota.StoredBytes, tn.Quota.Objects = 20*1000+999, 1000
	var ok atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			_, err := d.Do(Request{Tenant: tn, Op: "object.post", Reader: bytes.NewReader(Bytes(1000, uint64(i))), Length: -1})
			if err == nil {
				ok.Add(1)
			} else if macronode.KindOf(err) != macronode.QuotaBytes {
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	if b, o := d.Usage(tn); ok.Load() != 20 || b != 20_000 || o != 20 {
		t.Fatalf("%d puts went through: %d bytes, %d objects", ok.Load(), b, o)
	}
	Eventually(t, func() bool { return d.Stored() == 20 })
	tn.Quota.StoredBytes, tn.Quota.Objects = macronode.NoLimit, 25
	for i := range 64 {
		wg.Go(func() {
			_, err := d.Do(Request{Tenant: tn, Op: "object.post", Body: Bytes(10, uint64(1000+i))})
			if err != nil && macronode.KindOf(err) != macronode.QuotaObjects {
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	if b, o := d.Usage(tn); b != 20_050 || o != 25 {
		t.Fatalf("%d bytes, %d objects", b, o)
	}
}

// quotaEarly: what cannot fit is refused before it is read.
func quotaEarly(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	tn.Quota.StoredBytes = 100_000
	unread := iotest.ErrReader(errors.New("the body was read"))
	_, err := d.Do(Request{Tenant: tn, Op: "object.post", Reader: unread, Length: 100_001})
	want(t, err, macronode.QuotaBytes)
	tn.Quota.Objects = 0
	_, err = d.Do(Request{Tenant: tn, Op: "object.post", Reader: unread, Length: 1})
	want(t, err, macronode.QuotaObjects)
	tn.Quota.Objects = 1
	endless := &endlessReader{}
	_, err = d.Do(Request{Tenant: tn, Op: "object.post", Reader: endless, Length: -1})
	want(t, err, macronode.QuotaBytes)
	if endless.n > 300_000 {
		t.Errorf("%d bytes were read for a quota of 100000", endless.n)
	}
	nothing(t, d, tn)
	body := Bytes(100_000, 11)
	addr := d.MustPut(tn, body)
	// At its quota a tenant can put again what it has.
	if a, err := d.Do(Request{Tenant: tn, Op: "object.put", Addr: addr, Body: body}); err != nil || !a.Put(t).Existed {
		t.Fatalf("put again: %v %+v", err, a)
	}
}

type endlessReader struct{ n int }

func (r *endlessReader) Read(p []byte) (int, error) {
	r.n += len(p)
	return len(p), nil
}
