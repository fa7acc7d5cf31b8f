// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
)

// Fields of receipts, under their canonical names.
const (
	hPrefer  = "Prefer"
	hApplied = "Preference-Applied"
	hReceipt = "Audit-Receipt"
	hLink    = "Link"
	// receiptPreference is the preference (RFC 7240) of a call that wants a receipt
	// of its audit record; its value linkOnly asks for the link alone.
	receiptPreference = "audit-receipt"
	linkOnly          = "link"
)

const (
	// maxReceiptField bounds the receipt in a field: what servers and proxies
	// take for one, and a frame's head has room for.
	maxReceiptField = 6 << 10
	// maxReceiptHead bounds all fields of a reply with a receipt in it.
	maxReceiptHead = 7 << 10
	// receiptWait is how long a reply may wait for its record's checkpoint.
	receiptWait = 2 * time.Second
)

var errNoRecord = errors.New("wall: the auditor names no record")

// noting returns the context in which the handler's records are noted, where the
// caller wants a receipt of what it changes.
func (f *flight) noting(ctx context.Context) context.Context {
	if f.w.Receipts == nil || !f.b.Write || f.call.Header[hPrefer] == nil {
		return ctx
	}
	if _, wanted := preference(f.call.Header[hPrefer], receiptPreference); !wanted {
		return ctx
	}
	f.notes = &macronode.RecordNotes{}
	return macronode.WithRecordNotes(ctx, f.notes)
}

// attest gives the reply the receipt of what was done: of the handler's own record,
// else of one that says how the call ended. A receipt is a wish: where there is none to
// be had, what was done is answered all the same.
func (f *flight) attest(ctx context.Context) {
	if f.notes == nil || f.reply.Status >= 300 {
		return
	}
	if f.place != nil {
		f.place.Yield() // from here on the call waits for a disk
	}
	ctx, cancel := context.WithTimeout(ctx, receiptWait)
	defer cancel()
	seq, ok := f.notes.Last(f.ownStream())
	if !ok {
		var err error
		if seq, err = f.recordOutcome(ctx); err != nil {
			f.unattested(err)
			return
		}
	}
	how, _ := preference(f.call.Header[hPrefer], receiptPreference)
	h := make(macronode.Header, len(f.reply.Header)+2)
	maps.Copy(h, f.reply.Header)
	f.reply.Header = h
	text, err := "", error(nil)
	if how != linkOnly {
		text, err = f.w.Receipts.Receipt(ctx, seq, min(maxReceiptField, maxReceiptHead-headBytes(h)-headBytes(f.charge.Header)))
	}
	if text != "" {
		h[hReceipt], h[hApplied] = []string{text}, []string{receiptPreference}
		return
	}
	if err != nil {
		f.unattested(err)
	}
	h[hApplied] = []string{receiptPreference + "=" + linkOnly}
	h[hLink] = append(h[hLink][:len(h[hLink]):len(h[hLink])], fmt.Sprintf("</v1/audit/receipt?seq=%d>; rel=%q", seq, receiptPreference))
}

func (f *flight) unattested(err error) {
	f.w.Log.Warn("an audit receipt was asked for and could not be given", "event", "audit_receipt", "op", string(f.b.Op), "corr_id", f.call.CorrID, "cause", err)
}

// ownStream is the stream whose records the caller may read; "": all.
func (f *flight) ownStream() string {
	if f.adm.Principal.Tenant == macronode.SystemTenant {
		return ""
	}
	return "tenant/" + f.adm.Principal.Tenant.String()
}

// recordOutcome makes the record durable that says how the call ended.
func (f *flight) recordOutcome(ctx context.Context) (uint64, error) {
	e := f.event("")
	status := f.reply.Status
	if status == 0 {
		status = 200
	}
	e.Attrs = map[string]any{"phase": "end", "status": int64(status)}
	if tag := f.reply.Header.Get("Etag"); tag != "" {
		e.Attrs["etag"] = tag
	}
	if err := f.w.Audit.Append(macronode.WithRecordNotes(ctx, f.notes), e); err != nil {
		return 0, err
	}
	f.recorded = true
	seq, ok := f.notes.Last(e.Stream)
	if !ok {
		return 0, errNoRecord
	}
	return seq, nil
}

// headBytes is about what the fields take on either wire.
func headBytes(h macronode.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 8
		}
	}
	return n
}

// preference looks a preference up (RFC 7240): its value, and whether it is there.
// Of one that stands twice the first counts.
func preference(fields []string, name string) (value string, ok bool) {
	for _, field := range fields {
		for field != "" {
			var one string
			one, field = cutUnquoted(field, ',')
			one, _ = cutUnquoted(one, ';')
			key, v, _ := strings.Cut(one, "=")
			if strings.EqualFold(strings.TrimSpace(key), name) {
				return strings.Trim(strings.TrimSpace(v), `"`), true
			}
		}
	}
	return "", false
}

// cutUnquoted is strings.Cut at the first sep outside a quoted text.
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
