// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind classes an error for those who must act on it. Kinds cross the wire as
// codes, so the list is append-only.
type Kind uint8

// The kinds. Their status, code and reason are in the one table below.
const (
	Internal Kind = iota
	Malformed
	Unauthenticated // no capability where one is needed
	TokenMalformed
	TokenForged
	TokenExpired
	TokenNotYetValid
	TokenAudience
	TokenAddress
	TokenClientCert
	TokenDischarge
	TokenRevoked
	AuthFlood // too many failed authentications from this address
	Denied    // by policy
	CaveatDenied
	TLSRequired
	TenantMismatch
	TenantSuspended
	NotFound
	MethodNotAllowed
	NotAcceptable
	Conflict
	IdempotencyRunning
	LeaseLost
	LengthRequired
	PreconditionFailed
	TooLarge
	DecompressLimit
	HeaderTooLarge
	UnsupportedMedia
	RangeNotSatisfiable
	BadDigest
	IdempotencyMismatch
	Invalid // well-formed, but not acceptable
	QuotaRate
	QuotaInFlight
	QuotaBytes
	QuotaObjects
	QuotaDepth
	Timeout // the client did not send in time
	Unimplemented
	Integrity
	Unavailable
	Overload
	Draining
	PolicyUnavailable
	FacetDown
	DeadlineExceeded
	DiskFull
	ObligationFailed
	ClientGone
	NumKinds
)

// Reasons are the values of rejected_total{reason}, in full.
var Reasons = []string{
	"unauth", "policy", "quota", "oversize", "overload", "decompress", "integrity", "timeout",
	"drain", "malformed", "facet", "disk", "obligation", "conflict",
}

// KindInfo is how a kind looks from outside.
type KindInfo struct {
	Status    int
	Code      string // in the problem document; unique but for "malformed"
	Reason    string // rejected_total reason; "" where it is no refusal
	Title     string
	Retryable bool
}

var kinds = [NumKinds]KindInfo{
	Internal:            {500, "internal", "", "Internal error", false},
	Malformed:           {400, "malformed", "malformed", "The request is malformed", false},
	Unauthenticated:     {401, "unauthenticated", "unauth", "A capability is required", false},
	TokenMalformed:      {401, "malformed", "unauth", "The capability is malformed", false},
	TokenForged:         {401, "forged", "unauth", "The capability does not verify", false},
	TokenExpired:        {401, "expired", "unauth", "The capability has expired", false},
	TokenNotYetValid:    {401, "not_yet_valid", "unauth", "The capability is not valid yet", false},
	TokenAudience:       {401, "audience", "unauth", "The capability is for another node", false},
	TokenAddress:        {401, "address", "unauth", "The capability is not for this address", false},
	TokenClientCert:     {401, "client_cert", "unauth", "The capability is bound to another client certificate", false},
	TokenDischarge:      {401, "discharge", "unauth", "A discharge is missing or does not verify", false},
	TokenRevoked:        {401, "revoked", "unauth", "The capability was revoked", false},
	AuthFlood:           {429, "auth_flood", "unauth", "Too many failed authentications from this address", true},
	Denied:              {403, "denied", "policy", "Policy does not allow this", false},
	CaveatDenied:        {403, "caveat", "policy", "The capability does not cover this", false},
	TLSRequired:         {403, "tls_required", "unauth", "This needs TLS", false},
	TenantMismatch:      {403, "tenant_mismatch", "policy", "The capability is another tenant's", false},
	TenantSuspended:     {403, "tenant_suspended", "policy", "The tenant is suspended", false},
	NotFound:            {404, "not_found", "", "Not found", false},
	MethodNotAllowed:    {405, "method_not_allowed", "malformed", "Method not allowed", false},
	NotAcceptable:       {406, "not_acceptable", "malformed", "No acceptable representation", false},
	Conflict:            {409, "conflict", "conflict", "Conflict", false},
	IdempotencyRunning:  {409, "idempotency_running", "conflict", "The first request with this key is still running", true},
	LeaseLost:           {409, "lease_lost", "conflict", "The lease was lost", false},
	LengthRequired:      {411, "length_required", "malformed", "A length is required", false},
	PreconditionFailed:  {412, "precondition_failed", "conflict", "Precondition failed", false},
	TooLarge:            {413, "too_large", "oversize", "Too large", false},
	DecompressLimit:     {413, "decompress", "decompress", "Expands beyond the limit", false},
	HeaderTooLarge:      {431, "header_too_large", "oversize", "Header too large", false},
	UnsupportedMedia:    {415, "unsupported_media", "malformed", "Unsupported media type or encoding", false},
	RangeNotSatisfiable: {416, "range_not_satisfiable", "", "Range not satisfiable", false},
	BadDigest:           {422, "bad_digest", "integrity", "The bytes do not match the address", false},
	IdempotencyMismatch: {422, "idempotency_mismatch", "conflict", "The key was used for another request", false},
	Invalid:             {422, "invalid", "malformed", "The request cannot be accepted", false},
	QuotaRate:           {429, "quota_rate", "quota", "Rate quota exceeded", true},
	QuotaInFlight:       {429, "quota_inflight", "quota", "Too many requests in flight", true},
	QuotaBytes:          {429, "quota_bytes", "quota", "Stored bytes quota exceeded", false},
	QuotaObjects:        {429, "quota_objects", "quota", "Object count quota exceeded", false},
	QuotaDepth:          {429, "quota_depth", "quota", "Queue depth quota exceeded", true},
	Timeout:             {408, "timeout", "timeout", "The request did not arrive in time", true},
	Unimplemented:       {501, "unimplemented", "malformed", "Not implemented", false},
	Integrity:           {502, "integrity", "integrity", "The stored bytes are damaged", false},
	Unavailable:         {503, "unavailable", "overload", "A dependency is unavailable", true},
	Overload:            {503, "overload", "overload", "The node is overloaded", true},
	Draining:            {503, "draining", "drain", "The node is draining", true},
	PolicyUnavailable:   {503, "policy_unavailable", "policy", "Policy is unavailable", true},
	FacetDown:           {503, "facet_down", "facet", "The facet is unavailable", true},
	DeadlineExceeded:    {504, "deadline_exceeded", "timeout", "The deadline passed", true},
	DiskFull:            {507, "disk_full", "disk", "The disk is full", false},
	ObligationFailed:    {403, "obligation", "obligation", "An obligation does not hold", false},
	ClientGone:          {499, "client_gone", "", "The client went away", false},
}

// Info returns how k looks from outside.
func (k Kind) Info() KindInfo { return kinds[k] }

func (k Kind) String() string {
	if k >= NumKinds {
		return "none"
	}
	return kinds[k].Code
}

// Error is the one error type that crosses package borders on the request
// path. Detail is for the caller and must not speak of internals; Err is the
// cause, for logs alone.
type Error struct {
	Op         Op
	Kind       Kind
	Detail     string
	RetryAfter time.Duration // 0: the listener's default for the kind
	Header     Header        // further response fields (Allow, Content-Range); may be nil
	Err        error
}

func (e *Error) Error() string {
	s := string(e.Op)
	if s != "" {
		s += ": "
	}
	s += e.Kind.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of kind k whose formatted text the caller may read.
// A %w operand becomes the cause, and its text is then public too: wrap only
// errors that are safe to show.
func Errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Detail: err.Error(), Err: errors.Unwrap(err)}
}

// Wrap makes an error of kind k that hides its cause from the caller, but for how
// long the cause says to wait.
func Wrap(k Kind, detail string, cause error) *Error {
	e := &Error{Kind: k, Detail: detail, Err: cause}
	if inner, ok := errors.AsType[*Error](cause); ok {
		e.RetryAfter = inner.RetryAfter
	}
	return e
}

// AsError returns err as an *Error: itself where it is or wraps one, else
// Internal with err as the hidden cause. nil stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Err: err}
}

// KindOf returns the kind of err: Internal where it is no *Error, NumKinds,
// which is no kind, where it is nil.
func KindOf(err error) Kind {
	if err == nil {
		return NumKinds
	}
	return AsError(err).Kind
}

// defaultRetryAfter is what a retryable refusal says when nobody knows better.
const defaultRetryAfter = time.Second

// RetryHint is the wait that a refusal of this kind announces; 0: none.
func (e *Error) RetryHint() time.Duration {
	info := kinds[e.Kind]
	if !info.Retryable || (info.Status != 429 && info.Status != 503) {
		return 0
	}
	if e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return defaultRetryAfter
}

// roundUp is d in milliseconds: whoever comes back after them comes late enough.
func roundUp(d time.Duration) int64 { return (d + time.Millisecond - 1).Milliseconds() }

// ErrorReference is where the error reference is published; a problem's type
// is this followed by its code.
const ErrorReference = "https://rustyonions.github.io/macronode/errors#"

// Problem is the RFC 9457 document that answers a refusal on both wires.
type Problem struct {
	Type         string `json:"type"`
	Title        string `json:"title"`
	Status       int    `json:"status"`
	Detail       string `json:"detail,omitempty"`
	Instance     string `json:"instance"`
	Code         string `json:"code"`
	Reason       string `json:"reason"`
	Retryable    bool   `json:"retryable"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
	CorrID       string `json:"corr_id"`
	// Headers are the error's further fields: over OAP/1, whose refusals have no head,
	// they are said here alone.
	Headers Header `json:"headers,omitempty"`
}

// withoutTokens cuts capabilities out of a text: a caller who put one where it
// does not belong (a member's name, say) is told so without having it repeated,
// for answers end up in logs that are not ours.
func withoutTokens(s string) string {
	const prefix = "ron1_"
	before, after, found := strings.Cut(s, prefix)
	if !found {
		return s
	}
	rest := strings.TrimLeft(after, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=")
	return before + "[redacted]" + withoutTokens(rest)
}

// Problem renders e for the caller: no cause, no internals, no capability.
func (e *Error) Problem(corrID string) Problem {
	info := kinds[e.Kind]
	reason := info.Reason
	if reason == "" {
		reason = info.Code
	}
	return Problem{
		Type: ErrorReference + info.Code, Title: info.Title, Status: info.Status, Detail: withoutTokens(e.Detail),
		Instance: "urn:macronode:call:" + corrID, Code: info.Code, Reason: reason,
		Retryable: info.Retryable, RetryAfterMS: roundUp(e.RetryHint()), CorrID: corrID, Headers: e.Header,
	}
}
