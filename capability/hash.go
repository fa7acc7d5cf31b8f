// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"encoding/binary"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3/block"
)

// The strings that keep apart what is hashed.
const (
	// MintContext is the derive_key context that makes a minting key the key
	// of tag[0]. A key store that must not hand out the minting key derives
	// with it and the result goes to DerivedKey.
	MintContext = "macronode capability mint v1"

	rootDomain = "macronode/capability/v1\x00"
	idDomain   = "macronode/capability/id/v1\x00"
	rateDomain = "macronode/capability/rate/v1\x00"
)

// KeyBytes is the length of a minting key and of a tag.
const KeyBytes = 32

// words is a BLAKE3 chaining value: a key or a hash as the algorithm sees it.
// Links of a chain stay in this form, because each hash is the next key.
type words [8]uint32

func toWords(b *[KeyBytes]byte) (w words) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return w
}

func (w *words) bytes() (b [KeyBytes]byte) {
	for i, v := range w {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	return b
}

// Key verifies and mints the tokens of one version of one tenant's minting key.
// It is a secret; it may be used by many goroutines, but not while Wipe runs.
type Key struct{ k words }

// NewKey derives the Key of a minting key. It does so on the stack: the blake3
// package's own derivation leaves what it derives from in two objects on the heap.
func NewKey(mintKey *[KeyBytes]byte) *Key {
	iv := words(guts.IV)
	context := hash(&iv, guts.FlagDeriveKeyContext, MintContext)
	return &Key{hash(&context, guts.FlagDeriveKeyMaterial, mintKey[:])}
}

// DerivedKey is NewKey for one who already has derive_key(MintContext, minting key).
func DerivedKey(k *[KeyBytes]byte) *Key { return &Key{toWords(k)} }

// Wipe overwrites the key. What it signed no longer verifies with it.
func (k *Key) Wipe() { clear(k.k[:]) }

// String does not show the key.
func (k *Key) String() string { return "capability.Key(secret)" }

// GoString does not show the key.
func (k *Key) GoString() string { return k.String() }

// hash is BLAKE3 in the mode that flags say, keyed by key. Messages are of up to
// one chunk, in practice all.
func hash[T string | []byte](key *words, flags uint32, msg T) words {
	if len(msg) > guts.ChunkSize {
		// A copy, so that the short messages of callers can stay on the stack.
		return hashLong(key, flags, append([]byte(nil), msg...))
	}
	return block.Sum((*block.Words)(key), flags, msg)
}

// hashLong is hash for messages of more than one chunk.
func hashLong(key *words, flags uint32, msg []byte) words {
	var k []byte
	if flags&guts.FlagKeyedHash != 0 {
		b := key.bytes()
		k = b[:]
	}
	h := blake3.New(KeyBytes, k)
	_, _ = h.Write(msg) // never fails
	var out [KeyBytes]byte
	h.Sum(out[:0])
	return toWords(&out)
}

// next is the tag after t: the keyed hash of a caveat's encoding.
func (w *words) next(caveat string) words { return hash(w, guts.FlagKeyedHash, caveat) }

// underDomain hashes domain and tag without a key; both fit one block.
func (w *words) underDomain(domain string) [KeyBytes]byte {
	var msg [guts.BlockSize]byte
	n := copy(msg[:], domain)
	tag := w.bytes()
	n += copy(msg[n:], tag[:])
	iv := words(guts.IV)
	sum := hash(&iv, 0, msg[:n])
	return sum.bytes()
}

// id names the link of the chain that ends in tag w.
func (w *words) id() macronode.CapID {
	sum := w.underDomain(idDomain)
	return macronode.CapID(sum[:16])
}

// rateKey names the bucket of the rate caveat that ends in tag w. It is a hash
// because the tag itself, read from a table of buckets, would let the reader
// make a token without the caveats that follow.
func (w *words) rateKey() [KeyBytes]byte { return w.underDomain(rateDomain) }
