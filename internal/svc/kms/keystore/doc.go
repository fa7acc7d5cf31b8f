// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package keystore keeps the KMS's records in files, sealed.
//
// # Keys
//
// A random 32-byte data key seals everything. It is itself sealed by the root: a
// key file, a passphrase file or a systemd credential (see [Root]). Changing the
// root ([Reseal]) rewrites two small files and no record. The data key is what a
// recovery export holds, so an export survives a change of root.
//
// # Files
//
//	root, root.copy           the data key, sealed by the root
//	manifest, manifest.copy   which records there are, sealed by the data key
//	key+NAME.GEN.rec          one key with all its versions
//	obj+NAME@vN.GEN.rec       one version of one object
//	public.json               public keys; needs neither lock nor root to read
//
// Every file but public.json is one envelope, integers big-endian:
//
//	"RONKSTOR" | format u8 = 1 | kind u8 | suite u8 | store id 16 bytes |
//	generation u64 | name length u16 | name | body length u32 | body |
//	BLAKE3-256 of all before it
//
// The body is a 24-byte nonce and XChaCha20-Poly1305 over the plain text (suite
// 1), or, for a root of kind passphrase, an age file (suite 2). Everything
// before the body length is associated data, so a record cannot be given
// another name, generation or store. The hash at the end is no protection; it
// tells plain damage from a wrong root. The subkeys for records and for the
// manifest are derived from the data key by BLAKE3's key derivation.
//
// # Crashes and damage
//
// A change writes the record under a new file name, then the manifest, which is
// the moment of commit, then removes the old file. So a crash leaves the state
// before or after, whole. The root and the manifest are kept twice: a store
// whose one copy is damaged opens, says so, and mends it. A damaged record is
// named and refused; the others work.
//
// # What rollback is seen
//
// The manifest holds each record's generation and hash, and is authenticated. So
// a record that was deleted, replaced by an older copy of itself, or taken from
// another store is seen. Not seen, because no file here can tell: the whole
// directory put back to an older state, or both copies of the manifest put back
// together with all the records of that time. [Store.Epoch] lets a caller who
// keeps the last value elsewhere see that too ([Options].MinEpoch).
package keystore
