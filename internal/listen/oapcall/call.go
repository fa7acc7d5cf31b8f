// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package oapcall is what every way of OAP/1 into the node has in common,
// streams of a connection and frames in a request of HTTP: a stream's first
// frame becomes a Call, a Reply an answer's head and chunks, an error the
// payload of an error frame. Frames themselves it neither reads nor writes.
package oapcall

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/field"
	"github.com/rustyonions/macronode/oap"
)

// BrokenCode is that of an error frame behind an answer's head.
const BrokenCode = 502

// Refused returns the refusal that err, an *oap.Error, means to a stream.
func Refused(err error) *macronode.Error {
	if e, ok := err.(*oap.Error); ok {
		return macronode.Errorf(e.Kind(), "%s", e.Text())
	}
	return macronode.AsError(err)
}

// elsewhere are fields that have a place of their own in a frame or a head.
// Said twice, two parts of the node might each believe another one.
var elsewhere = [...]string{"Authorization", "Idempotency-Key", "Traceparent", "Content-Length", "Transfer-Encoding", "Connection"}

// Fill makes c the call that the first frame of a stream asks for: f is the
// frame's header, capability its capability, of which c keeps a copy, head the
// head, which becomes c's own. Peer and Body are the caller's to set. An error
// is a refusal that needs no identity; what is filled in by then suffices to
// render it.
func Fill(c *macronode.Call, f *oap.Header, capability []byte, head *oap.RequestHead) *macronode.Error {
	c.Wire, c.Op, c.AppID, c.Args, c.Header = macronode.WireOAP, head.Op, f.App, head.Args, head.Headers
	c.Length, c.IdempotencyKey, c.ClaimedTenant = head.Length, head.IdempotencyKey, f.Tenant
	c.Received = time.Now()
	if c.Header == nil {
		c.Header = macronode.Header{}
	}
	c.CorrID = field.CorrID(c.Header[field.CorrIDName])
	if head.TraceParent != "" {
		c.TraceParent = field.TraceParent([]string{head.TraceParent})
	}
	if head.DeadlineMS > 0 {
		c.Deadline = c.Received.Add(time.Duration(head.DeadlineMS) * time.Millisecond)
	}
	if len(capability) > 0 {
		c.Token = append([]byte(nil), capability...)
	}
	if len(c.Header) == 0 {
		return nil
	}
	for _, name := range elsewhere {
		if _, ok := c.Header[name]; ok {
			return macronode.Errorf(macronode.Malformed, "%s is no header of this wire", name)
		}
	}
	lists := c.Header[field.DischargeName]
	if len(lists) == 0 {
		return nil
	}
	var err *macronode.Error
	if c.Discharges, err = field.Discharges(lists); err == nil {
		delete(c.Header, field.DischargeName)
	}
	return err
}

// Empty reports whether the answer to c with this code has no body, whatever
// its length says.
func Empty(c *macronode.Call, code uint16) bool {
	return code == 204 || code == 304 || (c.Binding != nil && c.Binding.Method == "HEAD")
}

// own are fields of an answer that are the wire's to say.
var own = [...]string{"Connection", "Transfer-Encoding", "Content-Length"}

// Answer makes the head of the answer r to c, which keeps r's fields. Its length is
// that of the body, where one follows and it is known; without one it says what a
// read would give.
func Answer(c *macronode.Call, r *macronode.Reply) oap.AnswerHead {
	h := oap.AnswerHead{Code: uint16(r.Status), Length: r.BodyLength(), Headers: r.Header}
	if r.Status == 0 {
		h.Code = 200
	}
	if r.Body == nil && r.Stream == nil && !Empty(c, h.Code) {
		h.Length = 0
	}
	if h.Code == 204 || h.Code == 304 {
		h.Length = oap.UnknownLength
	}
	h.More = append(make([]oap.Field, 0, 2), oap.Field{Name: field.CorrIDName, Value: c.CorrID})
	if r.ContentType != "" {
		h.More = append(h.More, oap.Field{Name: "Content-Type", Value: r.ContentType})
	}
	// What a reply has of these is not passed on. It hardly ever has any.
	for _, name := range own {
		h.Headers = without(h.Headers, name)
	}
	for i := range h.More {
		h.Headers = without(h.Headers, h.More[i].Name)
	}
	return h
}

// without is h, or a copy that lacks the field: many replies may have the same.
func without(h macronode.Header, name string) macronode.Header {
	if _, ok := h[name]; ok {
		h = maps.Clone(h)
		delete(h, name)
	}
	return h
}

// Problem is the payload of the error frame that says e, and its code. began:
// an answer's head went out before.
func Problem(e *macronode.Error, corrID string, began bool) (code uint16, payload []byte) {
	p := e.Problem(corrID)
	if began {
		p.Status = BrokenCode
	}
	doc, err := json.Marshal(&p)
	if err != nil {
		doc = nil // a problem holds text and numbers alone
	}
	return uint16(p.Status), doc
}
