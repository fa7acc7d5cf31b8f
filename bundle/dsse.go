// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Limits on an envelope. All are checked before the part in question is copied.
const (
	MaxPayloadBytes  = 16 << 20                      // decoded payload
	MaxEnvelopeBytes = MaxPayloadBytes/3*4 + 256<<10 // the envelope's JSON text
	MaxSignatures    = 32
	MaxTypeBytes     = 256  // payload type
	maxSigBytes      = 4096 // one decoded signature; ML-DSA-65 has 3309
)

// Payload types of the documents this project signs.
const (
	ConfigType = "application/vnd.macronode.config+toml"
	PolicyType = "application/vnd.macronode.policy+json"
)

// ErrMalformed says that bytes are no envelope, trust document, key id, digest
// or reference. Errors that wrap it say which and why.
var ErrMalformed = errors.New("malformed")

// Envelope is a DSSE envelope with its base64 already undone.
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []Signature
}

// Signature is one signature over [PAE] of an envelope. KeyID only hints at the
// key: it is not covered by the signature.
type Signature struct {
	KeyID string
	Sig   []byte
}

// PAE is DSSE's pre-authentication encoding, the bytes that are signed. Lengths
// are in bytes, so no two pairs of type and payload share an encoding.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len("DSSEv1 ")+2*20+len(payloadType)+len(payload)+3)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// wireEnvelope is the JSON form. Members that it does not name are ignored, as
// the DSSE specification asks.
type wireEnvelope struct {
	PayloadType string          `json:"payloadType"`
	Payload     string          `json:"payload"`
	Signatures  []wireSignature `json:"signatures"`
}

type wireSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// Encode returns the envelope's JSON text, ending in a newline: standard padded
// base64, two-space indent, always the same bytes for the same envelope.
func (e *Envelope) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	w := wireEnvelope{
		PayloadType: e.PayloadType,
		Payload:     base64.StdEncoding.EncodeToString(e.Payload),
		Signatures:  make([]wireSignature, 0, len(e.Signatures)),
	}
	for _, s := range e.Signatures {
		w.Signatures = append(w.Signatures, wireSignature{s.KeyID, base64.StdEncoding.EncodeToString(s.Sig)})
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(w); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return buf.Bytes(), nil
}

// Decode reads an envelope. It takes standard and URL-safe base64, padded or
// not, as DSSE asks. It refuses duplicate members, an envelope without a
// signature, two signatures under one key id and anything over the limits; the
// error wraps [ErrMalformed]. Decode verifies nothing.
func Decode(text []byte) (*Envelope, error) {
	if len(text) > MaxEnvelopeBytes {
		return nil, malformed("envelope: %d bytes, at most %d are accepted", len(text), MaxEnvelopeBytes)
	}
	if err := checkJSON(text, true); err != nil {
		return nil, malformed("envelope: %v", err)
	}
	var w wireEnvelope
	if err := json.Unmarshal(text, &w); err != nil {
		return nil, malformed("envelope: not of the DSSE form")
	}
	if len(w.Signatures) > MaxSignatures {
		return nil, malformed("envelope: %d signatures, at most %d are accepted", len(w.Signatures), MaxSignatures)
	}
	e := &Envelope{PayloadType: w.PayloadType, Signatures: make([]Signature, 0, len(w.Signatures))}
	var err error
	if e.Payload, err = decodeBase64(w.Payload, MaxPayloadBytes); err != nil {
		return nil, malformed("envelope: payload: %v", err)
	}
	for i, s := range w.Signatures {
		sig, err := decodeBase64(s.Sig, maxSigBytes)
		if err != nil {
			return nil, malformed("envelope: signature %d: %v", i+1, err)
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: s.KeyID, Sig: sig})
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

// check holds an envelope to the limits, whether read or about to be written.
func (e *Envelope) check() error {
	switch {
	case e.PayloadType == "":
		return malformed("envelope: no payload type")
	case len(e.PayloadType) > MaxTypeBytes:
		return malformed("envelope: payload type of %d bytes, at most %d are accepted", len(e.PayloadType), MaxTypeBytes)
	case len(e.Payload) > MaxPayloadBytes:
		return malformed("envelope: payload of %d bytes, at most %d are accepted", len(e.Payload), MaxPayloadBytes)
	case len(e.Signatures) == 0:
		return malformed("envelope: no signature")
	case len(e.Signatures) > MaxSignatures:
		return malformed("envelope: %d signatures, at most %d are accepted", len(e.Signatures), MaxSignatures)
	}
	seen := make(map[string]bool, len(e.Signatures))
	for i, s := range e.Signatures {
		switch {
		case len(s.KeyID) > maxKeyIDBytes:
			return malformed("envelope: signature %d: key id of %d bytes, at most %d are accepted", i+1, len(s.KeyID), maxKeyIDBytes)
		case len(s.Sig) == 0 || len(s.Sig) > maxSigBytes:
			return malformed("envelope: signature %d: %d bytes, 1 to %d are accepted", i+1, len(s.Sig), maxSigBytes)
		case seen[s.KeyID]:
			return malformed("envelope: two signatures under key id %q", s.KeyID)
		}
		seen[s.KeyID] = true
	}
	return nil
}

// decodeBase64 reads either alphabet, with or without padding, but not both
// alphabets in one text.
func decodeBase64(s string, maxBytes int) ([]byte, error) {
	if base64.RawStdEncoding.DecodedLen(len(s)) > maxBytes+2 {
		return nil, fmt.Errorf("over %d bytes", maxBytes)
	}
	// encoding/base64 skips line ends; a signed document has none inside.
	if bytes.ContainsAny([]byte(s), "\r\n") {
		return nil, errors.New("not base64")
	}
	for _, enc := range []*base64.Encoding{
		base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
	} {
		if b, err := enc.Strict().DecodeString(s); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("not base64")
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrMalformed}, args...)...)
}
