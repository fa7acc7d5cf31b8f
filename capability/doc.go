// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package capability mints, narrows, verifies and checks capabilities: bearer
// tokens that anyone may narrow without asking anyone, and that nobody can widen.
//
// A token is the deterministic CBOR (RFC 8949, section 4.2.1) of
//
//	[1, tenant(16 bytes), kid(text), nonce(16 bytes), caveats, tag(32 bytes)]
//
// where caveats is an array of [type(uint), value]. As text it is "ron1_" and
// the base64url of that, without padding. The tag is the last link of a chain of
// keyed BLAKE3 hashes, after "Macaroons: Cookies with Contextual Caveats for
// Decentralized Authorization in the Cloud" (Birgisson et al., NDSS 2014):
//
//	K      = derive_key("macronode capability mint v1", minting key)
//	tag[0] = keyed_hash(K, "macronode/capability/v1\x00" || CBOR([1, tenant, kid, nonce]))
//	tag[i] = keyed_hash(tag[i-1], CBOR(caveat i))
//
// Only the last tag travels. Whoever holds a token can therefore add caveats
// (Token.Attenuate), and cannot take one away without the tag that stood before
// it.
//
// # Use
//
// A node that minted the token verifies it with the same key and then checks
// the caveats against what is being done:
//
//	tok, err := capability.Parse(text)      // well-formed and in the one accepted form?
//	v, err := tok.Verify(key)               // made with this key, nothing removed?
//	err = v.Check(&capability.Access{...})  // do all caveats hold for this access?
//
// A Verified may be kept and checked many times; Check does not allocate unless
// it refuses.
//
// # Errors
//
// Every error is a *macronode.Error. Parse, Decode, Mint and Attenuate fail with
// TokenMalformed; Verify with TokenForged or TokenDischarge; Check as it says.
// No error text holds a key, a tag or the token.
//
// # One form
//
// Every token has exactly one text. Whatever is not in that form is refused, so a
// token cannot be disguised: padding, other base64 alphabets, line breaks, bits
// beyond the last byte, lengths and integers that are not the shortest, lengths
// left open, tags, floats, simple values other than false, true and null, map
// keys out of order or twice, text that is not UTF-8, bytes after the end.
//
// testdata/vectors.json holds test vectors for other implementations;
// testdata/README.md explains them.
package capability
