// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"cmp"
	"math"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
)

// Limits of a head. They hold for both directions and cannot be configured.
const (
	// MaxHeadBytes is the most that a head may have; body bytes may follow it
	// in the same payload.
	MaxHeadBytes = 8 << 10

	maxOpBytes      = 64
	maxArgs         = 32
	maxArgNameBytes = 64
	maxHeaders      = 64
	maxHeaderBytes  = 64 // a name
	maxHeaderValues = 64 // of all repeated headers together
	maxTraceBytes   = 128
	// maxDeadlineMS is what still fits a time.Duration.
	maxDeadlineMS = math.MaxInt64 / 1_000_000
)

// UnknownLength is the Length of a body that nobody announced.
const UnknownLength int64 = -1

// The keys of a head.
const (
	keyOp       = 1
	keyArgs     = 2
	keyHeaders  = 3
	keyLength   = 4
	keyIdem     = 5
	keyDeadline = 6
	keyTrace    = 7

	keyCode          = 1
	keyAnswerHeaders = 2
	keyAnswerLength  = 3
)

// One value each, so that refusing a head allocates nothing.
var (
	errHeadShort    = &Error{ReasonHead, "the head breaks off"}
	errHeadLarge    = &Error{ReasonHeadSize, "the head is larger than its limits"}
	errHeadMany     = &Error{ReasonHeadSize, "the head has too many members"}
	errHeadForm     = &Error{ReasonHead, "the head is not in the shortest form of CBOR"}
	errHeadType     = &Error{ReasonHead, "the head has an item of a type that does not occur in one"}
	errHeadMap      = &Error{ReasonHead, "the head must be a map"}
	errHeadOrder    = &Error{ReasonHead, "the head's keys are not in order, or one stands twice"}
	errHeadKey      = &Error{ReasonHead, "the head has an unknown key"}
	errHeadMissing  = &Error{ReasonHead, "the head lacks a member"}
	errHeadOp       = &Error{ReasonHead, "the op is not the name of an operation"}
	errHeadArg      = &Error{ReasonHead, "the arguments must be a map from text to text"}
	errHeadHeader   = &Error{ReasonHead, "the headers must be a map from field names to field values"}
	errHeadLength   = &Error{ReasonHead, "the length must be a number of bytes"}
	errHeadIdem     = &Error{ReasonHead, "the idempotency key must be 1 to 128 visible characters"}
	errHeadDeadline = &Error{ReasonHead, "the deadline must be a number of milliseconds, at least 1"}
	errHeadTrace    = &Error{ReasonHead, "the traceparent must be visible characters"}
	errHeadCode     = &Error{ReasonHead, "the code must be a status from 100 to 599"}
)

// RequestHead opens the request of a stream.
//
// Names of Headers are in canonical form ("Content-Type"); on the wire they
// count without regard to case. A capability never stands in them: it is the
// frame's.
type RequestHead struct {
	Op      macronode.Op
	Args    []macronode.Arg // by name, each once
	Headers macronode.Header
	// Length of the body in bytes, or UnknownLength. The zero value announces
	// that there is none.
	Length         int64
	IdempotencyKey string // "": none
	// DeadlineMS is how many milliseconds after the head's arrival nobody waits
	// for the answer any more; 0: not said.
	DeadlineMS  int64
	TraceParent string // "": none
}

// AnswerHead opens the answer of a stream.
type AnswerHead struct {
	Code    uint16
	Headers macronode.Header
	// More are further headers to be written, whose names are not in Headers, so
	// that fields that many answers share need no map of each one's own. Parsing
	// leaves it nil.
	More   []Field
	Length int64 // of the body in bytes, or UnknownLength
}

// Field is a header of one value.
type Field struct{ Name, Value string }

// ParseRequestHead reads the head at the start of payload and returns how many
// bytes it has; what follows it is body. The head must be there as a whole and
// in deterministic form, the one that Append writes but for the case of header
// names: unknown keys, keys out of order and numbers in a longer form than
// needed are errors. What it returns keeps nothing of payload. Errors are of
// type *Error.
func ParseRequestHead(payload []byte) (RequestHead, int, error) {
	n, bad := headEnd(payload)
	if bad != nil {
		return RequestHead{}, 0, bad
	}
	r := reader{s: string(payload[:n])}
	h := RequestHead{Length: UnknownLength}
	var have uint8
	last := uint64(0)
	for range r.count(majMap, keyTrace, errHeadMap) {
		key := r.key(&last)
		have |= 1 << key
		switch key {
		case keyOp:
			h.Op = macronode.Op(r.text(1, maxOpBytes, visible, errHeadOp))
		case keyArgs:
			h.Args = r.args()
		case keyHeaders:
			h.Headers = r.headers()
		case keyLength:
			h.Length = int64(r.uint(math.MaxInt64, errHeadLength))
		case keyIdem:
			h.IdempotencyKey = r.text(1, macronode.MaxIdempotencyKeyBytes, visible, errHeadIdem)
		case keyDeadline:
			if h.DeadlineMS = int64(r.uint(maxDeadlineMS, errHeadDeadline)); h.DeadlineMS == 0 {
				r.fail(errHeadDeadline)
			}
		case keyTrace:
			h.TraceParent = r.text(1, maxTraceBytes, visible, errHeadTrace)
		default:
			r.fail(errHeadKey)
		}
		if r.bad != nil {
			return RequestHead{}, 0, r.bad
		}
	}
	const needed = 1<<keyOp | 1<<keyArgs | 1<<keyHeaders
	if bad := r.end(have&needed == needed); bad != nil {
		return RequestHead{}, 0, bad
	}
	return h, n, nil
}

// ParseAnswerHead is ParseRequestHead for an answer's head.
func ParseAnswerHead(payload []byte) (AnswerHead, int, error) {
	n, bad := headEnd(payload)
	if bad != nil {
		return AnswerHead{}, 0, bad
	}
	r := reader{s: string(payload[:n])}
	h := AnswerHead{Length: UnknownLength}
	var have uint8
	last := uint64(0)
	for range r.count(majMap, keyAnswerLength, errHeadMap) {
		key := r.key(&last)
		have |= 1 << key
		switch key {
		case keyCode:
			h.Code = uint16(r.uint(599, errHeadCode))
			if h.Code < 100 {
				r.fail(errHeadCode)
			}
		case keyAnswerHeaders:
			h.Headers = r.headers()
		case keyAnswerLength:
			h.Length = int64(r.uint(math.MaxInt64, errHeadLength))
		default:
			r.fail(errHeadKey)
		}
		if r.bad != nil {
			return AnswerHead{}, 0, r.bad
		}
	}
	const needed = 1<<keyCode | 1<<keyAnswerHeaders
	if bad := r.end(have&needed == needed); bad != nil {
		return AnswerHead{}, 0, bad
	}
	return h, n, nil
}

// key reads a key of the head itself, each greater than the last.
func (r *reader) key(last *uint64) uint64 {
	k := r.uint(keyTrace, errHeadKey)
	if r.bad == nil && k <= *last {
		if k == 0 {
			r.fail(errHeadKey)
		} else {
			r.fail(errHeadOrder)
		}
	}
	*last = k
	return k
}

// end is what a reader says when all was read.
func (r *reader) end(whole bool) *Error {
	switch {
	case r.bad != nil:
		return r.bad
	case !whole:
		return errHeadMissing
	case r.pos != len(r.s):
		return errHeadForm // headEnd and the reader disagree
	}
	return nil
}

func (r *reader) args() []macronode.Arg {
	n := r.count(majMap, maxArgs, errHeadArg)
	if n == 0 {
		return nil
	}
	args := make([]macronode.Arg, n)
	for i := range args {
		args[i].Name = r.text(1, maxArgNameBytes, visible, errHeadArg)
		args[i].Value = r.text(0, MaxHeadBytes, utf8.ValidString, errHeadArg)
		if i > 0 && r.bad == nil && !after(args[i-1].Name, args[i].Name) {
			r.fail(errHeadOrder)
		}
		if r.bad != nil {
			return nil
		}
	}
	return args
}

// headers reads fields: one value is text, several are an array of text.
func (r *reader) headers() macronode.Header {
	n := r.count(majMap, maxHeaders, errHeadHeader)
	if n == 0 {
		return nil
	}
	h := make(macronode.Header, n)
	values := make([]string, 0, n)
	last, cased := "", false // cased: there was a name in another case
	for range n {
		name := r.text(1, maxHeaderBytes, token, errHeadHeader)
		if r.bad == nil && last != "" && !after(last, name) {
			r.fail(errHeadOrder)
		}
		last = name
		if cased || !canonical(name) {
			cased = true
			name = textproto.CanonicalMIMEHeaderKey(name)
			if _, twice := h[name]; twice {
				r.fail(errHeadOrder) // it stood there in another case
			}
		}
		from, repeated := len(values), 1
		if r.peek() == majArray {
			if repeated = r.count(majArray, maxHeaderValues, errHeadHeader); repeated < 2 {
				r.fail(errHeadForm)
			}
		}
		for range repeated {
			values = append(values, r.text(0, MaxHeadBytes, fieldValue, errHeadHeader))
		}
		if r.bad != nil {
			return nil
		}
		h[name] = values[from:len(values):len(values)]
	}
	return h
}

// Append writes the head behind b; body bytes may follow. It refuses what
// ParseRequestHead would refuse, and returns b as it was then. Args need not be
// in order. Names of Headers must be canonical.
func (h *RequestHead) Append(b []byte) ([]byte, error) {
	switch {
	case h.Op == "" || len(h.Op) > maxOpBytes || !visible(string(h.Op)):
		return b, errHeadOp
	case h.Length < UnknownLength:
		return b, errHeadLength
	case len(h.IdempotencyKey) > macronode.MaxIdempotencyKeyBytes || !visible(h.IdempotencyKey):
		return b, errHeadIdem
	case h.DeadlineMS < 0 || h.DeadlineMS > maxDeadlineMS:
		return b, errHeadDeadline
	case len(h.TraceParent) > maxTraceBytes || !visible(h.TraceParent):
		return b, errHeadTrace
	}
	members := uint64(keyHeaders)
	for _, there := range [...]bool{h.Length >= 0, h.IdempotencyKey != "", h.DeadlineMS > 0, h.TraceParent != ""} {
		if there {
			members++
		}
	}
	out := appendItem(b, majMap, members)
	out = appendText(append(out, keyOp), string(h.Op))
	out, bad := appendArgs(append(out, keyArgs), h.Args)
	if bad != nil {
		return b, bad
	}
	if out, bad = appendHeaders(append(out, keyHeaders), h.Headers, nil); bad != nil {
		return b, bad
	}
	if h.Length >= 0 {
		out = appendItem(append(out, keyLength), majUint, uint64(h.Length))
	}
	if h.IdempotencyKey != "" {
		out = appendText(append(out, keyIdem), h.IdempotencyKey)
	}
	if h.DeadlineMS > 0 {
		out = appendItem(append(out, keyDeadline), majUint, uint64(h.DeadlineMS))
	}
	if h.TraceParent != "" {
		out = appendText(append(out, keyTrace), h.TraceParent)
	}
	return fits(b, out)
}

// Append is RequestHead's, for an answer.
func (h *AnswerHead) Append(b []byte) ([]byte, error) {
	switch {
	case h.Code < 100 || h.Code > 599:
		return b, errHeadCode
	case h.Length < UnknownLength:
		return b, errHeadLength
	}
	members := uint64(keyAnswerHeaders)
	if h.Length >= 0 {
		members++
	}
	out := appendItem(b, majMap, members)
	out = appendItem(append(out, keyCode), majUint, uint64(h.Code))
	out, bad := appendHeaders(append(out, keyAnswerHeaders), h.Headers, h.More)
	if bad != nil {
		return b, bad
	}
	if h.Length >= 0 {
		out = appendItem(append(out, keyAnswerLength), majUint, uint64(h.Length))
	}
	return fits(b, out)
}

// fits returns out, unless what it has more than b is too large for a head.
func fits(b, out []byte) ([]byte, error) {
	if len(out)-len(b) > MaxHeadBytes {
		return b, errHeadLarge
	}
	return out, nil
}

func appendArgs(b []byte, args []macronode.Arg) ([]byte, *Error) {
	if len(args) > maxArgs {
		return b, errHeadMany
	}
	var order [maxArgs]macronode.Arg
	sorted := order[:copy(order[:], args)]
	slices.SortFunc(sorted, func(a, b macronode.Arg) int { return compare(a.Name, b.Name) })
	b = appendItem(b, majMap, uint64(len(sorted)))
	for i, a := range sorted {
		switch {
		case a.Name == "" || !visible(a.Name) || !utf8.ValidString(a.Value):
			return b, errHeadArg
		case len(a.Name) > maxArgNameBytes || len(a.Value) > MaxHeadBytes:
			return b, errHeadLarge
		case i > 0 && sorted[i-1].Name == a.Name:
			return b, errHeadOrder
		}
		b = appendText(appendText(b, a.Name), a.Value)
	}
	return b, nil
}

// fewHeaders is how many names are put in order without an allocation.
const fewHeaders = 24

func appendHeaders(b []byte, h macronode.Header, more []Field) ([]byte, *Error) {
	if len(h)+len(more) > maxHeaders {
		return b, errHeadMany
	}
	var order [fewHeaders]string
	names := order[:0]
	for name, values := range h {
		if len(values) > 0 {
			names = insert(names, name)
		}
	}
	for i := range more {
		names = insert(names, more[i].Name)
	}
	b = appendItem(b, majMap, uint64(len(names)))
	repeated := 0
	for i, name := range names {
		switch {
		case len(name) > maxHeaderBytes:
			return b, errHeadLarge
		case !canonical(name):
			return b, errHeadHeader
		case i > 0 && names[i-1] == name:
			return b, errHeadOrder
		}
		b = appendText(b, name)
		values := h[name]
		if len(values) > 1 {
			if repeated += len(values); repeated > maxHeaderValues {
				return b, errHeadMany
			}
			b = appendItem(b, majArray, uint64(len(values)))
		}
		var bad *Error
		for _, v := range values {
			if b, bad = appendValue(b, v); bad != nil {
				return b, bad
			}
		}
		if len(values) > 0 {
			continue
		}
		for j := range more {
			if more[j].Name == name {
				b, bad = appendValue(b, more[j].Value)
			}
		}
		if bad != nil {
			return b, bad
		}
	}
	return b, nil
}

// insert puts name where the order wants it: there are few of them.
func insert(names []string, name string) []string {
	names = append(names, name)
	i := len(names) - 1
	for ; i > 0 && after(name, names[i-1]); i-- {
		names[i] = names[i-1]
	}
	names[i] = name
	return names
}

func appendValue(b []byte, v string) ([]byte, *Error) {
	switch {
	case !fieldValue(v):
		return b, errHeadHeader
	case len(v) > MaxHeadBytes:
		return b, errHeadLarge
	}
	return appendText(b, v), nil
}

// compare orders keys as a deterministic map has them.
func compare(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// visible reports whether s is visible ASCII alone.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// letters are what of a field's name is what: the zero value for what cannot
// stand in one (RFC 9110).
var letters = func() (t [256]uint8) {
	for _, c := range []byte("0123456789!#$%&'*+-.^_`|~") {
		t[c] = other
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = small, large
	}
	return t
}()

const (
	other = 1 << iota
	small
	large
)

// token reports whether s can be the name of a field (RFC 9110).
func token(s string) bool {
	for i := range len(s) {
		if letters[s[i]] == 0 {
			return false
		}
	}
	return true
}

// canonical reports whether s can be the name of a field and is in canonical form:
// each part begins with a capital, and goes on in small letters.
func canonical(s string) bool {
	wrong := uint8(small)
	for i := range len(s) {
		if l := letters[s[i]]; l == 0 || l == wrong {
			return false
		}
		if wrong = large; s[i] == '-' {
			wrong = small
		}
	}
	return s != ""
}

// fieldValue reports whether s can be the value of a field: text on one line,
// without control characters or space around it.
func fieldValue(s string) bool {
	var all byte
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
		all |= s[i]
	}
	if s != "" && (s[0] == ' ' || s[0] == '\t' || s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		return false
	}
	return all < utf8.RuneSelf || utf8.ValidString(s)
}
