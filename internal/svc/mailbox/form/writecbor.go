// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
)

// Major types of CBOR, and its simple values.
const (
	cborUint  = 0
	cborBytes = 2
	cborText  = 3
	cborArray = 4
	cborMap   = 5

	cborFalse = 0xf4
	cborTrue  = 0xf5
	// CBORNull is what a quiet sequence of messages says to show that it lives.
	CBORNull = 0xf6
)

// appendHead appends the head of an item in its shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n < 1<<8:
		return append(b, m|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, m|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, m|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, m|27), n)
}

func appendCBORText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

// shorterFirst is the order of keys in deterministic CBOR.
func shorterFirst(x, y string) int {
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
}

// AppendMessageCBOR appends a received message as a map, its keys in the order of
// deterministic CBOR. cursor is that of a subscription; "" leaves it out.
func AppendMessageCBOR(b []byte, topic, cursor string, d *broker.Delivery) []byte {
	members := uint64(10)
	if cursor != "" {
		members++
	}
	b = appendHead(b, cborMap, members)
	b = appendCBORText(b, "ts")
	b = appendHead(b, cborText, uint64(len(TimeLayout)))
	b = d.TS.UTC().AppendFormat(b, TimeLayout)
	b = appendCBORText(b, "key")
	b = appendCBORText(b, d.Key)
	b = appendCBORText(b, "attrs")
	b = appendHead(b, cborMap, uint64(len(d.Attrs)))
	if len(d.Attrs) > 0 {
		for _, name := range slices.SortedFunc(maps.Keys(d.Attrs), shorterFirst) {
			b = appendCBORText(b, name)
			b = appendCBORText(b, d.Attrs[name])
		}
	}
	b = appendCBORText(b, "topic")
	b = appendCBORText(b, topic)
	if cursor != "" {
		b = appendCBORText(b, "cursor")
		b = appendCBORText(b, cursor)
	}
	b = appendCBORText(b, "msg_id")
	b = appendHead(b, cborText, 26)
	b = AppendID(b, d.ID)
	b = appendCBORText(b, "attempt")
	b = appendHead(b, cborUint, uint64(max(d.Attempt, 0)))
	b = appendCBORText(b, "corr_id")
	b = appendCBORText(b, d.CorrID)
	b = appendCBORText(b, "payload")
	b = appendHead(b, cborBytes, uint64(len(d.Payload)))
	b = append(b, d.Payload...)
	b = appendCBORText(b, "receipt")
	b = appendCBORText(b, d.Receipt)
	b = appendCBORText(b, "payload_hash")
	b = appendHead(b, cborText, 67)
	return appendHash(b, d.Hash)
}

func sentCBOR(all []broker.Sent, refusal func(error) Refusal) []byte {
	b := make([]byte, 0, 16+len(all)*48)
	b = appendHead(b, cborMap, 1)
	b = appendCBORText(b, "results")
	b = appendHead(b, cborArray, uint64(len(all)))
	for i := range all {
		if all[i].Err == nil {
			b = appendHead(b, cborMap, 2)
			b = appendCBORText(b, "msg_id")
			b = appendHead(b, cborText, 26)
			b = AppendID(b, all[i].ID)
			b = appendCBORText(b, "duplicate")
			if all[i].Duplicate {
				b = append(b, cborTrue)
			} else {
				b = append(b, cborFalse)
			}
			continue
		}
		r := refusal(all[i].Err)
		members := uint64(2)
		if r.RetryAfterMS > 0 {
			members++
		}
		b = appendHead(b, cborMap, members)
		b = appendCBORText(b, "code")
		b = appendCBORText(b, r.Code)
		b = appendCBORText(b, "detail")
		b = appendCBORText(b, r.Detail)
		if r.RetryAfterMS > 0 {
			b = appendCBORText(b, "retry_after_ms")
			b = appendHead(b, cborUint, uint64(r.RetryAfterMS))
		}
	}
	return b
}
