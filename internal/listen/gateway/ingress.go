// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/field"
	"github.com/rustyonions/macronode/internal/listen/oapcall"
	"github.com/rustyonions/macronode/oap"
)

// ingressPath takes OAP/1 frames over HTTP. It is a wire, not a route: what
// arrives is a frame, whose call crosses the wall like any other.
const ingressPath = "/ingress"

// IngressType is the media type of frames.
const IngressType = "application/vnd.ron.oap"

// maxExpanded is how many compressed frames are served at once. Each may hold
// oap.MaxExpandedBytes, and its sender is not known yet.
const maxExpanded = 8

// wholeCall are the flags of a frame that is a call by itself.
const wholeCall = oap.REQ | oap.START | oap.END

// ingress is one call that came as a frame in a request's body, and the frames
// that answer it. A fault of the frame is answered as faults of requests are; from
// there on HTTP's status is 200, and frames say what became of the call.
type ingress struct {
	x    *exchange
	h    oap.Header
	call macronode.Call
	body frameBody

	replied bool // send or refuse was called
	began   bool // the answer's head is among the frames
	code    uint16
	head    []byte // of the answer, until it is written
	scratch []byte
	out     oapcall.Output
}

// ingress answers requests to ingressPath.
func (x *exchange) ingress() {
	in := &ingress{x: x}
	in.call.CorrID, in.body.in = x.call.CorrID, in
	first, e := in.take()
	if e != nil {
		x.s.conf.Reject(e.Kind)
		x.refuse(e)
		return
	}
	if in.h.Flags&oap.COMP != 0 {
		select {
		case x.s.expanded <- struct{}{}:
			defer func() { <-x.s.expanded }()
		default:
			in.reject(macronode.Errorf(macronode.Overload, "too many compressed frames are served at once"))
			return
		}
	}
	payload, e := in.expand(first[in.h.CapLen:])
	if e != nil {
		x.s.conf.Reject(e.Kind)
		x.refuse(e)
		return
	}
	if e := in.fill(first[:in.h.CapLen], payload); e != nil {
		in.reject(e)
		return
	}
	if err := x.s.conf.Server.Serve(x.r.Context(), &in.call, in.send); err != nil {
		in.refuse(macronode.AsError(err))
	} else if !in.replied {
		in.refuse(macronode.Wrap(macronode.Internal, "", errNoAnswer))
	}
}

// reject is refuse before the wall saw the call.
func (in *ingress) reject(e *macronode.Error) {
	in.x.s.conf.Reject(e.Kind)
	in.refuse(e)
}

// take reads the frame as far as it must be known before the call is: header,
// capability, and of the payload what may be a head, or all where it is
// compressed. The size of a frame is held against its limit before anything else.
func (in *ingress) take() (first []byte, _ *macronode.Error) {
	x := in.x
	limit := x.limits.MaxFrameBytes
	switch {
	case x.r.Method != http.MethodPost:
		e := macronode.Errorf(macronode.MethodNotAllowed, "frames are posted")
		e.Header = macronode.Header{"Allow": {http.MethodPost}}
		return nil, e
	case x.call.Length > limit:
		return nil, macronode.Errorf(macronode.TooLarge, "a frame may have %d bytes", limit)
	case !x.call.Peer.Secure():
		return nil, macronode.Errorf(macronode.TLSRequired, "frames are not taken in the clear")
	case len(x.call.Token) > 0 || x.call.BadAuth || len(x.call.Discharges) > 0 || x.call.IdempotencyKey != "":
		return nil, macronode.Errorf(macronode.Malformed, "capability, discharges and idempotency key belong in the frame")
	}
	b, err := in.read(oap.HeaderBytes)
	if err != nil {
		return nil, err
	}
	h, bad := oap.ParseHeader(b, int(limit))
	switch {
	case bad != nil:
		return nil, oapcall.Refused(bad)
	case x.call.Length >= 0 && int64(h.Len) != x.call.Length:
		return nil, macronode.Errorf(macronode.Malformed, "the body is not one frame")
	case h.Flags&wholeCall != wholeCall || h.Code != 0 || h.Corr == 0:
		return nil, macronode.Errorf(macronode.Malformed, "the frame is no START|REQ|END of a stream")
	}
	in.h = h
	payload := h.PayloadLen()
	now := payload
	if h.Flags&oap.COMP == 0 {
		now = min(payload, oap.MaxHeadBytes)
	}
	if first, err = in.read(int(h.CapLen) + now); err != nil {
		return nil, err
	}
	in.body.left = int64(payload - now)
	if in.body.left == 0 {
		return first, in.body.last()
	}
	return first, nil
}

// read reads n bytes of the frame. What is set aside grows with what arrives.
func (in *ingress) read(n int) ([]byte, *macronode.Error) {
	b, err := io.ReadAll(&io.LimitedReader{R: (*timely)(in), N: int64(n)})
	if err != nil {
		return nil, macronode.AsError(err)
	}
	if len(b) < n {
		return nil, macronode.Errorf(macronode.Malformed, "the frame breaks off")
	}
	return b, nil
}

// timely reads the request's body before its route is known: the time limit of a
// request holds.
type timely ingress

func (r *timely) Read(p []byte) (int, error) {
	x := r.x
	if x.call.Body == nil {
		return 0, io.EOF
	}
	if time.Since(x.call.Received) > x.limits.RequestTimeout {
		return 0, macronode.Errorf(macronode.Timeout, "the frame did not arrive in time")
	}
	return x.body.Read(p)
}

// expand returns the payload as it was before it was compressed.
func (in *ingress) expand(payload []byte) ([]byte, *macronode.Error) {
	if in.h.Flags&oap.COMP == 0 {
		return payload, nil
	}
	out, err := in.x.s.expander.Expand(nil, payload, oap.MaxExpandedBytes)
	if err != nil {
		return nil, oapcall.Refused(err)
	}
	return out, nil
}

// fill makes the call of the frame.
func (in *ingress) fill(capability, payload []byte) *macronode.Error {
	c, x := &in.call, in.x
	head, n, err := oap.ParseRequestHead(payload)
	if err != nil {
		return oapcall.Refused(err)
	}
	named := len(head.Headers[field.CorrIDName]) > 0
	e := oapcall.Fill(c, &in.h, capability, &head)
	c.Peer = x.call.Peer
	if !named {
		c.CorrID = x.call.CorrID
	}
	if c.TraceParent == "" {
		c.TraceParent = x.call.TraceParent
	}
	if e != nil {
		return e
	}
	in.body.rest = payload[n:]
	length := int64(len(in.body.rest)) + in.body.left
	if head.Length >= 0 && head.Length != length {
		return macronode.Errorf(macronode.Malformed, "the body is not as long as its head says")
	}
	if c.Length = length; length > 0 {
		c.Body = &in.body
	}
	if x.limits.SeparateAdmin && !x.conn.Endpoint().Admin && x.s.conf.Admin(c.Op) {
		return macronode.Errorf(macronode.NotFound, "app_proto_id %d has no such operation", in.h.App)
	}
	return nil
}

// frameBody is the body in a frame: what was read with the head, then the rest of
// the request.
type frameBody struct {
	in   *ingress
	rest []byte
	left int64 // of the frame, still in the request
	err  error
}

func (b *frameBody) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(b.rest) > 0:
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	x := b.in.x
	x.call.Binding = b.in.call.Binding // its time limits are the body's
	n, err := x.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err == io.EOF && b.left > 0:
		b.err = macronode.Errorf(macronode.Malformed, "the frame breaks off")
	case err != nil && err != io.EOF:
		b.err = err
	case b.left == 0:
		b.err = io.EOF
		if last := b.last(); last != nil {
			b.err = last
		}
	}
	return n, b.err
}

// last refuses a request that goes on behind its frame. Where its length was
// announced, that was compared before.
func (b *frameBody) last() *macronode.Error {
	x := b.in.x
	if x.call.Length >= 0 {
		return nil
	}
	var one [1]byte
	switch n, err := io.ReadFull(&x.body, one[:]); {
	case n > 0:
		return macronode.Errorf(macronode.Malformed, "the body is not one frame")
	case err != io.EOF:
		return macronode.AsError(err)
	}
	return nil
}

// send writes a reply as frames. It is the macronode.Send of the call.
func (in *ingress) send(r *macronode.Reply) error {
	if in.replied {
		return macronode.Wrap(macronode.Internal, "", errTwice)
	}
	h := oapcall.Answer(&in.call, r)
	head, err := h.Append(nil)
	if err != nil {
		return macronode.Wrap(macronode.Internal, "", err)
	}
	in.code, in.head = h.Code, head
	empty := oapcall.Empty(&in.call, h.Code)
	if r.Stream != nil && !empty {
		in.open(-1)
		return in.done(in.out.Send(in, &in.x.s.frames, h.Length, r.Stream))
	}
	body := r.Body
	if empty {
		body = nil
	}
	frames := max(1, (len(body)+in.chunk()-1)/in.chunk())
	in.open(int64(frames*oap.HeaderBytes + len(head) + len(body)))
	_, err = in.Push(body, true)
	return in.done(err)
}

// open makes the reply of HTTP ready for frames of n bytes in all; negative:
// nobody knows. Nothing leaves yet.
func (in *ingress) open(n int64) {
	x := in.x
	h := x.w.Header()
	x.set("Content-Type", IngressType)
	h["Cache-Control"] = noStore
	h[hCorrID] = []string{in.call.CorrID}
	if n >= 0 {
		x.set("Content-Length", strconv.FormatInt(n, 10))
	}
	x.keepOrEnd(n)
	x.out = output{x: x, status: http.StatusOK, left: n}
}

// done ends the reply of HTTP. A stream that failed behind its head is answered
// with one more frame, by refuse.
func (in *ingress) done(err error) error {
	if err == nil {
		in.replied = true
		return in.x.out.close(nil)
	}
	return err
}

// chunk is the most that a frame of an answer has of its body.
func (in *ingress) chunk() int {
	l := in.x.limits
	return int(max(1, min(l.ChunkBytes, oap.MaxFrameBytes-oap.HeaderBytes-oap.MaxHeadBytes)))
}

// Push implements oapcall.Sink.
func (in *ingress) Push(p []byte, end bool) (n int, err error) {
	in.replied, in.began = true, true
	for first := true; first || n < len(p); first = false {
		m := min(len(p)-n, in.chunk())
		var flags oap.Flags
		if end && n+m == len(p) {
			flags = oap.END
		}
		f := oap.Answer(&in.h, in.code, flags, nil)
		if in.scratch, err = oap.AppendHeader(in.scratch[:0], f.Header, 0, len(in.head)+m); err != nil {
			return n, macronode.Wrap(macronode.Internal, "", err)
		}
		in.scratch = append(in.scratch, in.head...)
		in.head = nil
		if _, err = in.x.out.Write(in.scratch); err != nil {
			return n, err
		}
		if m > 0 {
			if _, err = in.x.out.Write(p[n : n+m]); err != nil {
				return n, err
			}
		}
		n += m
	}
	return n, nil
}

// Flush sends the frames that wait.
func (in *ingress) Flush() error { return in.x.out.Flush() }

// refuse ends the call with an error frame.
func (in *ingress) refuse(e *macronode.Error) {
	x := in.x
	code, doc := oapcall.Problem(e, in.call.CorrID, in.began)
	f := oap.Refusal(&in.h, code, doc)
	b, err := oap.Append(nil, &f)
	if err != nil {
		x.abort()
	}
	if in.began {
		// The frames so far stand in a reply that has no length.
		if x.out.left >= 0 || x.out.err != nil {
			x.abort()
		}
	} else {
		clear(x.w.Header())
		x.common()
		in.open(int64(len(b)))
	}
	in.replied = true
	_, err = x.out.Write(b)
	if err = x.out.close(err); err != nil && x.began {
		x.abort()
	}
}
