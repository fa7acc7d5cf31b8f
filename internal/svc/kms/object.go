// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Limits of objects.
const (
	// MaxObjectBytes bounds one version of an object.
	MaxObjectBytes = 1 << 20
	// MaxObjectVersions bounds the versions of one object that are kept.
	MaxObjectVersions = 1024
)

// PolicyMarkObject is the object in which the node remembers how far its policy
// has come. It is the node's own: see [Reserved].
const PolicyMarkObject = "policy-mark"

// Reserved reports whether the object is written by the node alone. Neither the
// API nor a command writes it for anybody.
func Reserved(object string) bool { return object == PolicyMarkObject }

// objectVersion is one version of an object; its bytes stay sealed on disk.
type objectVersion struct {
	number uint64
	info   atomic.Pointer[ObjectInfo] // nil until it was read once
}

// ObjectInfo describes one version of an object.
type ObjectInfo struct {
	Name      string  `json:"name"`
	Version   uint64  `json:"version"`
	Size      int64   `json:"size"`
	Hash      b3.Addr `json:"hash"` // BLAKE3 of the bytes
	CreatedMS int64   `json:"created_ms"`
	// Damaged is set, and the three before it are not, where the record cannot
	// be read.
	Damaged bool `json:"damaged,omitempty"`
}

// PutObject keeps data as a version of the object and returns it. Version 0 is
// the one after the newest; any other must be above the newest, else Conflict.
// Where the newest (or the version asked for) has these bytes already, nothing is
// written and made is false. When it returns nil the version is durable.
func (s *Store) PutObject(ctx context.Context, name string, version uint64, data []byte) (info ObjectInfo, made bool, err error) {
	defer func() { s.metrics.count(opPutObject, noAlg, err) }()
	switch {
	case !ValidName(name):
		return ObjectInfo{}, false, macronode.Errorf(macronode.Invalid, "an object's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, the first a letter or digit")
	case len(data) > MaxObjectBytes:
		return ObjectInfo{}, false, macronode.Errorf(macronode.TooLarge, "an object is at most %d bytes", MaxObjectBytes)
	case version > MaxVersion:
		return ObjectInfo{}, false, macronode.Errorf(macronode.Invalid, "a version is at most %d", uint64(MaxVersion))
	}
	if err := s.checkChain(name, data); err != nil {
		return ObjectInfo{}, false, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	list, err := s.versions(name)
	if err != nil {
		return ObjectInfo{}, false, err
	}
	var newest uint64
	if len(list) > 0 {
		newest = list[len(list)-1].number
	}
	if old := version; newest != 0 && old <= newest {
		if old == 0 {
			old = newest
		}
		have, info, err := s.object(name, old)
		switch {
		case err == nil && bytes.Equal(have, data):
			return info, false, nil
		case version != 0:
			return ObjectInfo{}, false, macronode.Errorf(macronode.Conflict, "object %s has version %d already; the next is %d", name, newest, newest+1)
		}
	}
	if version == 0 {
		version = newest + 1
	}
	if len(list) >= MaxObjectVersions {
		return ObjectInfo{}, false, macronode.Errorf(macronode.Invalid, "object %s has %d versions, and cannot have more; drop old ones", name, MaxObjectVersions)
	}
	if err := s.before(ctx, s.event(ctx, opPutObject, name, attrs(noAlg, version))); err != nil {
		return ObjectInfo{}, false, err
	}
	created := time.UnixMilli(max(s.now().UnixMilli(), 0)).UTC()
	record := encodeObject(s.vault.Arena(), created, data)
	err = s.vault.Save(objectRecord(name, version), record.Bytes())
	record.Wipe()
	if err != nil {
		return ObjectInfo{}, false, wrapVault(err)
	}
	o := &objectVersion{number: version}
	info = ObjectInfo{Name: name, Version: version, Size: int64(len(data)), Hash: blake3.Sum256(data), CreatedMS: created.UnixMilli()}
	o.info.Store(&info)
	s.use.Lock()
	s.objects[name] = append(slices.Clone(list), o)
	s.use.Unlock()
	return info, true, nil
}

// versions returns the object's versions; none where there is no such object.
// The slice is shared and must not be changed.
func (s *Store) versions(name string) ([]*objectVersion, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	return s.objects[name], s.ready()
}

// NewestVersion is the number of the object's newest version; 0 where there is no
// such object.
func (s *Store) NewestVersion(name string) (uint64, error) {
	list, err := s.versions(name)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].number, nil
}

// Object returns the bytes of the referenced object, the newest version where
// the reference names none. They are read from the keystore every time, so that
// damage is seen, and are the caller's. NotFound, Integrity.
func (s *Store) Object(ref Ref) (data []byte, info ObjectInfo, err error) {
	defer func() { s.metrics.count(opObject, noAlg, err) }()
	if ref.Kind != RefObject {
		return nil, ObjectInfo{}, macronode.Errorf(macronode.Invalid, "%s is not an object's reference", ref)
	}
	return s.object(ref.Name, ref.Version)
}

// Peek describes the referenced object, and reads it only where nobody did
// before: it serves to see whether something changed.
func (s *Store) Peek(ref Ref) (ObjectInfo, error) {
	if ref.Kind != RefObject {
		return ObjectInfo{}, macronode.Errorf(macronode.Invalid, "%s is not an object's reference", ref)
	}
	o, err := s.objectVersion(ref.Name, ref.Version)
	if err != nil {
		return ObjectInfo{}, err
	}
	if info := o.info.Load(); info != nil {
		return *info, nil
	}
	_, info, err := s.object(ref.Name, ref.Version)
	return info, err
}

func (s *Store) objectVersion(name string, n uint64) (*objectVersion, error) {
	list, err := s.versions(name)
	if err != nil {
		return nil, err
	}
	if n == 0 && len(list) > 0 {
		return list[len(list)-1], nil
	}
	for _, o := range list {
		if o.number == n {
			return o, nil
		}
	}
	if n == 0 {
		return nil, macronode.Errorf(macronode.NotFound, "there is no object %s", name)
	}
	return nil, macronode.Errorf(macronode.NotFound, "object %s has no version %d", name, n)
}

func (s *Store) object(name string, n uint64) ([]byte, ObjectInfo, error) {
	o, err := s.objectVersion(name, n)
	if err != nil {
		return nil, ObjectInfo{}, err
	}
	var data []byte
	var info ObjectInfo
	err = s.vault.Load(objectRecord(name, o.number), func(plain []byte) error {
		created, b, err := decodeObject(plain)
		if err != nil {
			return &DamagedError{Name: objectRecord(name, o.number), Why: err.Error()}
		}
		data = append([]byte{}, b...)
		info = ObjectInfo{Name: name, Version: o.number, Size: int64(len(b)), Hash: blake3.Sum256(b), CreatedMS: created.UnixMilli()}
		return nil
	})
	var d *DamagedError
	switch {
	case err == nil:
		o.info.CompareAndSwap(nil, &info)
		return data, info, nil
	case errors.As(err, &d):
		s.use.Lock()
		if s.damaged[d.Name] == "" {
			s.damage(d.Name, d.Why)
		}
		s.use.Unlock()
		return nil, ObjectInfo{}, macronode.Wrap(macronode.Integrity, "the record of object "+name+" is damaged", err)
	case errors.Is(err, ErrNoRecord): // dropped meanwhile
		return nil, ObjectInfo{}, macronode.Errorf(macronode.NotFound, "object %s has no version %d", name, o.number)
	}
	return nil, ObjectInfo{}, macronode.Wrap(macronode.Unavailable, "the keystore could not be read", err)
}

// Objects describes every version of every object, by name and version. Those
// that nobody read since the start are read now.
func (s *Store) Objects() ([]ObjectInfo, error) {
	s.use.RLock()
	objects := maps.Clone(s.objects)
	err := s.ready()
	s.use.RUnlock()
	if err != nil {
		return nil, err
	}
	out := []ObjectInfo{}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		for _, o := range objects[name] {
			info, err := s.Peek(Ref{Kind: RefObject, Name: name, Version: o.number})
			switch {
			case err == nil:
			case macronode.KindOf(err) == macronode.NotFound:
				continue
			case macronode.KindOf(err) == macronode.Integrity:
				info = ObjectInfo{Name: name, Version: o.number, Damaged: true}
			default:
				return nil, err
			}
			out = append(out, info)
		}
	}
	return out, nil
}

// DropObject removes one version, which the reference must name, also a damaged
// one. The newest stays: its number must not come to mean other bytes.
func (s *Store) DropObject(ctx context.Context, ref Ref) error {
	if ref.Kind != RefObject || ref.Version == 0 {
		return macronode.Errorf(macronode.Invalid, "name the version to drop: KMS:obj/NAME@vN")
	}
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.objectVersion(ref.Name, ref.Version); err != nil {
		return err
	}
	list, _ := s.versions(ref.Name)
	if ref.Version == list[len(list)-1].number {
		return macronode.Errorf(macronode.Conflict, "version %d is the newest of object %s and stays", ref.Version, ref.Name)
	}
	if err := s.before(ctx, s.event(ctx, opDelete, ref.Name, attrs(noAlg, ref.Version))); err != nil {
		return err
	}
	record := objectRecord(ref.Name, ref.Version)
	if err := s.vault.Remove(record); err != nil {
		return wrapVault(err)
	}
	s.use.Lock()
	delete(s.damaged, record)
	s.objects[ref.Name] = slices.DeleteFunc(slices.Clone(list), func(o *objectVersion) bool { return o.number == ref.Version })
	s.use.Unlock()
	return nil
}
