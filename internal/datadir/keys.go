// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
	"github.com/rustyonions/macronode/internal/svc/kms/shares"
)

// Keys is a data directory's keys for commands. Where no process holds the
// directory they are opened; while a node holds it, the node is asked over
// DIR/admin.sock with DIR/operator.cap.
type Keys struct {
	dir   Dir
	lock  *disk.Lock // nil: a node holds the directory
	store *kms.Store
	node  *client.Client
	log   *slog.Logger
}

// OpenKeys opens the keys of the data directory at path.
func OpenKeys(path string, log *slog.Logger) (*Keys, error) {
	d, err := Open(disk.Real(), path)
	if err != nil {
		return nil, err
	}
	if _, err := d.FS.Stat(d.Path); err != nil {
		return nil, Exitf(macronode.ExitConfig, "data directory: %w", err)
	}
	if d.Exists(IncompleteName) {
		return nil, Exitf(macronode.ExitConfig, "%s: an init did not finish here; remove the directory and run init again", d.Path)
	}
	lock, err := d.FS.LockDir(d.Path)
	var held *disk.HeldError
	if errors.As(err, &held) {
		k := &Keys{dir: d, log: log}
		if k.node, err = d.dialAdmin(); err != nil {
			return nil, fmt.Errorf("%w; and it cannot be asked: %w", held, err)
		}
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	d.Unseal = d.Unsealing(context.Background(), log, nil)
	store, err := d.OpenKeystore(d.RootSetting(), kms.Options{Log: log}, false)
	if err != nil {
		lock.Close()
		return nil, err
	}
	store.GuardChains(d.servedChains)
	return &Keys{dir: d, lock: lock, store: store}, nil
}

// ServedChains says which object is served as the certificate chain of which
// key, by name.
func ServedChains(t *config.TLS) map[string]string {
	if !t.Enabled {
		return nil
	}
	return map[string]string{t.CertChain.Name: t.KMSKey.Name}
}

// servedChains is ServedChains of the directory's own bundle, where it is readable.
func (d Dir) servedChains() map[string]string {
	text, err := d.Read(BundleName)
	if err != nil {
		return nil
	}
	l, err := config.Check(text, BundleName, Features())
	if err != nil {
		return nil
	}
	return ServedChains(&l.Config.Server.TLS)
}

// Reachable tells whether the keys can be asked for: a process that holds the
// directory without listening, such as a node that starts, cannot be.
func (k *Keys) Reachable() error {
	if k.node == nil || k.dir.Exists(AdminSocketName) {
		return nil
	}
	return Exitf(macronode.ExitInUse, "a process holds %s and does not answer at %s yet; try again when it is ready, or stop it", k.dir.Path, AdminSocketName)
}

// dialAdmin is a client of the node that holds the directory.
func (d Dir) dialAdmin() (*client.Client, error) {
	token, err := d.Read(OperatorCapName)
	if err != nil {
		return nil, fmt.Errorf("the operator's capability: %w", err)
	}
	return client.Dial("unix://"+d.At(AdminSocketName), client.Options{Token: strings.TrimSpace(string(token)), UserAgent: "macronode", DialUnix: listen.DialUnix})
}

// RootSetting is kms.root of the directory's own bundle, or the default: a
// command that signs a bundle must work before there is a valid one.
func (d Dir) RootSetting() string {
	text, err := d.Read(BundleName)
	if err == nil {
		if l, err := config.Check(text, BundleName, Features()); err == nil {
			return l.Config.KMS.Root
		}
	}
	return config.DefaultKMSRoot
}

// OpenKeystore unseals the keystore, with the guards before its vault. Its errors
// carry exit codes.
func (d Dir) OpenKeystore(setting string, o kms.Options, readOnly bool, guards ...func(kms.Vault) kms.Vault) (*kms.Store, error) {
	root, err := d.Root(setting)
	if err != nil {
		return nil, err
	}
	vault, err := keystore.Open(d.FS, d.At(KeystoreDir), root, keystore.Options{Log: o.Log, ReadOnly: readOnly})
	switch {
	case errors.Is(err, keystore.ErrAbsent):
		return nil, Exitf(macronode.ExitConfig, "%s holds no keystore; make one with: macronode init --data %s", d.Path, d.Path)
	case errors.Is(err, keystore.ErrWrongRoot), errors.Is(err, keystore.ErrRootMode), errors.Is(err, keystore.ErrSealed), errors.Is(err, shares.ErrSet), errors.Is(err, keystore.ErrRootKind), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, Exitf(macronode.ExitConfig, "kms.root: %w", err)
	case err != nil:
		return nil, serviceExit(err)
	}
	var v kms.Vault = vault
	for _, guard := range guards {
		v = guard(v)
	}
	return kms.Open(v, o)
}

// Close releases the directory and wipes what was unsealed.
func (k *Keys) Close() error {
	var errs []error
	if k.store != nil {
		errs = append(errs, k.store.Close())
	}
	if k.lock != nil {
		errs = append(errs, k.lock.Close())
	}
	if k.node != nil {
		k.node.Close()
	}
	return errors.Join(errs...)
}

// List describes every key.
func (k *Keys) List(ctx context.Context) ([]kms.KeyInfo, error) {
	if k.node == nil {
		return k.store.List(ctx)
	}
	var keys []kms.KeyInfo
	for path := "/v1/kms/keys?limit=1000"; ; {
		var page struct {
			Keys   []kms.KeyInfo `json:"keys"`
			Cursor string        `json:"cursor"`
		}
		if err := k.node.JSON(ctx, "GET", path, "", nil, &page); err != nil {
			return nil, err
		}
		keys = append(keys, page.Keys...)
		if page.Cursor == "" {
			return keys, nil
		}
		path = "/v1/kms/keys?limit=1000&cursor=" + page.Cursor
	}
}

// Objects describes every object.
func (k *Keys) Objects(ctx context.Context) ([]kms.ObjectInfo, error) {
	if k.node == nil {
		return k.store.Objects()
	}
	var objects []kms.ObjectInfo
	for path := "/v1/kms/objects?limit=1000"; ; {
		var page struct {
			Objects []kms.ObjectInfo `json:"objects"`
			Cursor  string           `json:"cursor"`
		}
		if err := k.node.JSON(ctx, "GET", path, "", nil, &page); err != nil {
			return nil, err
		}
		objects = append(objects, page.Objects...)
		if page.Cursor == "" {
			return objects, nil
		}
		path = "/v1/kms/objects?limit=1000&cursor=" + page.Cursor
	}
}

// Create makes a key, or finds the one of that algorithm and purpose.
func (k *Keys) Create(ctx context.Context, s kms.Spec) (kms.KeyInfo, error) {
	if k.node == nil {
		info, _, err := k.store.Create(ctx, s)
		return info, err
	}
	in := map[string]any{"name": s.Name, "alg": s.Alg, "purpose": s.Purpose}
	if err := k.node.JSON(ctx, "POST", "/v1/kms/keys", "", in, nil); err != nil {
		return kms.KeyInfo{}, err
	}
	return k.find(ctx, s.Name)
}

// find describes one key of the node that holds the directory.
func (k *Keys) find(ctx context.Context, name string) (kms.KeyInfo, error) {
	keys, err := k.List(ctx)
	if err != nil {
		return kms.KeyInfo{}, err
	}
	for _, info := range keys {
		if info.Name == name && len(info.Versions) > 0 {
			return info, nil
		}
	}
	return kms.KeyInfo{}, fmt.Errorf("the node lists no key %q", name)
}

// Rotate adds a version to a key.
func (k *Keys) Rotate(ctx context.Context, name string) (kms.KeyInfo, error) {
	if k.node == nil {
		info, _, _, err := k.store.Rotate(ctx, kms.Spec{Name: name})
		return info, err
	}
	if err := k.node.JSON(ctx, "POST", "/v1/kms/keys/"+name+"/rotate", "", nil, nil); err != nil {
		return kms.KeyInfo{}, err
	}
	return k.find(ctx, name)
}

// DropVersion ends an old version of a key for good.
func (k *Keys) DropVersion(ctx context.Context, name string, version uint64) (kms.KeyInfo, error) {
	if k.node == nil {
		return k.store.DropVersion(ctx, name, version)
	}
	var out kms.KeyInfo
	err := k.node.JSON(ctx, "DELETE", fmt.Sprintf("/v1/kms/keys/%s/versions/%d", name, version), "", nil, &out)
	return out, err
}

// CertRequest makes a certificate request (PEM) of a key of purpose tls, the
// newest version where version is 0, and returns the version as NAME#vN.
func (k *Keys) CertRequest(ctx context.Context, name string, version uint64, dns, ips []string, commonName string) (request, key string, err error) {
	if k.node == nil {
		spec, err := kms.ParseCertNames(dns, ips, commonName)
		if err != nil {
			return "", "", err
		}
		text, n, err := k.store.CertRequest(ctx, kms.Ref{Kind: kms.RefKey, Name: name, Version: version}, spec)
		return string(text), fmt.Sprintf("%s#v%d", name, n), err
	}
	in := map[string]any{"dns": dns, "ips": ips, "common_name": commonName, "version": version}
	var out struct {
		Key string `json:"key"`
		CSR string `json:"csr"`
	}
	err = k.node.JSON(ctx, "POST", "/v1/kms/keys/"+name+"/csr", "", in, &out)
	return out.CSR, out.Key, err
}

// errHeld says that a command needs the directory to itself.
var errHeld = &ExitError{Code: macronode.ExitInUse, Err: errors.New("a node holds the data directory; stop it first")}

// Import makes a key of private material from elsewhere. It needs the directory
// to itself: private keys do not travel over the API.
func (k *Keys) Import(ctx context.Context, s kms.Spec, material []byte) (kms.KeyInfo, error) {
	if k.node != nil {
		return kms.KeyInfo{}, errHeld
	}
	info, _, err := k.store.Import(ctx, s, material)
	return info, err
}

// PutObject keeps data as an object's next version, or as version where it is
// not 0, and returns the version it has.
func (k *Keys) PutObject(ctx context.Context, name string, version uint64, data []byte) (kms.ObjectInfo, error) {
	if kms.Reserved(name) {
		return kms.ObjectInfo{}, Exitf(macronode.ExitUsage, "object %s is the node's own", name)
	}
	if k.node == nil {
		info, _, err := k.store.PutObject(ctx, name, version, data)
		return info, err
	}
	path := "/v1/kms/objects/" + name
	if version != 0 {
		path += fmt.Sprintf("?version=%d", version)
	}
	var out kms.ObjectInfo
	err := k.node.PutRaw(ctx, path, data, &out)
	return out, err
}

// signers are the signers of a key of purpose bundle. The API never signs with
// such keys, so where a node holds the directory the keystore is read beside it:
// whoever signs must be able to unseal it.
func (k *Keys) signers(ref bundle.Ref) ([]bundle.Signer, error) {
	if err := k.unseal(); err != nil {
		return nil, err
	}
	return Signers(k.store, ref)
}

// unseal opens the keystore for reading where a node holds the directory.
func (k *Keys) unseal() error {
	if k.store != nil {
		return nil
	}
	store, err := k.dir.OpenKeystore(k.dir.RootSetting(), kms.Options{Log: k.log}, true)
	if err == nil {
		k.store = store
	}
	return err
}

// Signers are the signers of a key of purpose bundle, one for each of its halves.
func Signers(store *kms.Store, ref bundle.Ref) ([]bundle.Signer, error) {
	halves, err := store.Signers(ref, kms.PurposeBundle)
	if err != nil {
		return nil, err
	}
	out := make([]bundle.Signer, len(halves))
	for i, h := range halves {
		out[i] = h
	}
	return out, nil
}

// PublicKeys reads the public keys of the directory at path. It needs neither
// its lock nor the root secret.
func PublicKeys(path string) (*kms.PublicDocument, error) {
	d, err := Open(disk.Real(), path)
	if err != nil {
		return nil, err
	}
	text, err := keystore.ReadPublic(d.FS, d.At(KeystoreDir))
	if err != nil {
		return nil, Exitf(macronode.ExitConfig, "public keys: %w", err)
	}
	return kms.ParsePublic(text)
}

// ExportRecovery returns the recovery file of the directory at path: whoever has
// it and the directory has every key.
func ExportRecovery(path string, log *slog.Logger) ([]byte, error) {
	d, err := Open(disk.Real(), path)
	if err != nil {
		return nil, err
	}
	d.Unseal = d.Unsealing(context.Background(), log, nil)
	root, err := d.Root(d.RootSetting())
	if err != nil {
		return nil, err
	}
	return keystore.ExportRecovery(d.FS, d.At(KeystoreDir), root)
}

// RestoreRoot gives the keystore of the directory at path a new root by a
// recovery file; the root is the one that the directory's bundle names. A key
// file that is missing is made.
func RestoreRoot(path string, export []byte) error {
	d, err := Open(disk.Real(), path)
	if err != nil {
		return err
	}
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return err
	}
	defer lock.Close()
	root, err := d.Root(d.RootSetting())
	if err != nil {
		return err
	}
	made := false
	if root.Kind == keystore.KeyFile {
		if _, err := d.FS.Stat(root.Path); errors.Is(err, fs.ErrNotExist) {
			if err := keystore.WriteKeyFile(d.FS, root.Path); err != nil {
				return err
			}
			made = true
		}
	}
	err = keystore.Restore(d.FS, d.At(KeystoreDir), export, root)
	if err != nil && made {
		_ = d.FS.Remove(root.Path) // it opens nothing
	}
	if errors.Is(err, keystore.ErrSealed) {
		return Exitf(macronode.ExitConfig, "%w; set kms.root to a key file, restore, and split it anew", err)
	}
	return err
}
