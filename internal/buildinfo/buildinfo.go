// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package buildinfo says which binary this is, and makes the /version document.
package buildinfo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/rustyonions/macronode/internal/buildtags"
)

// Set at link time:
//
//	go build -ldflags "-X github.com/rustyonions/macronode/internal/buildinfo.semver=1.2.3 …"
//
// Nothing writes to them afterwards.
var (
	semver  = "0.1.0-dev"
	gitSHA  string
	buildTS string // RFC 3339, UTC
)

// Unknown stands where the build did not say.
const Unknown = "unknown"

// ServiceName is the service member of the /version document.
const ServiceName = "macronode"

// Info identifies the binary.
type Info struct {
	Semver  string
	GitSHA  string // "-dirty" is added for a changed work tree
	BuildTS string
	Go      string
}

// Read returns what the linker was told, else what the Go tool recorded of the
// work tree, else Unknown.
func Read() Info {
	i := Info{Semver: semver, GitSHA: gitSHA, BuildTS: buildTS, Go: runtime.Version()}
	if i.GitSHA == "" || i.BuildTS == "" {
		if bi, ok := debug.ReadBuildInfo(); ok {
			i.fill(bi.Settings)
		}
	}
	if i.GitSHA == "" {
		i.GitSHA = Unknown
	}
	if i.BuildTS == "" {
		i.BuildTS = Unknown
	}
	return i
}

// fill takes what is still missing from the Go tool's record. Its time is the
// commit's, so that two builds of one commit are the same.
func (i *Info) fill(settings []debug.BuildSetting) {
	vcs := map[string]string{}
	for _, s := range settings {
		vcs[s.Key] = s.Value
	}
	if i.GitSHA == "" && vcs["vcs.revision"] != "" {
		i.GitSHA = vcs["vcs.revision"]
		if vcs["vcs.modified"] == "true" {
			i.GitSHA += "-dirty"
		}
	}
	if i.BuildTS == "" {
		i.BuildTS = vcs["vcs.time"]
	}
}

// Version is the /version document.
type Version struct {
	Service  string   `json:"service"`
	Semver   string   `json:"semver"`
	GitSHA   string   `json:"git_sha"`
	BuildTS  string   `json:"build_ts"`
	Go       string   `json:"go"`
	NodeID   string   `json:"node_id"`
	API      API      `json:"api"`
	Features Features `json:"features"`
	Config   Config   `json:"config"`
	PQ       PQ       `json:"pq"`
}

// API names the protocol versions spoken.
type API struct {
	HTTP string `json:"http"`
	OAP  int    `json:"oap"`
}

// Features says what is built in.
type Features struct {
	ZK      bool `json:"zk"`
	Arti    bool `json:"arti"`
	Amnesia bool `json:"amnesia"`
	PQ      bool `json:"pq"`
}

// Config identifies the applied config bundle.
type Config struct {
	Version    uint64 `json:"version"`
	BundleHash string `json:"bundle_hash"`
}

// PQ is the post-quantum posture in force.
type PQ struct {
	KEX        string `json:"kex"`        // "off", "hybrid" or "require"
	Signatures string `json:"signatures"` // "classical" or "hybrid"
}

// BuiltIn returns the features of this binary. Post-quantum algorithms are
// always built in.
func BuiltIn() Features {
	return Features{ZK: buildtags.ZK, Arti: buildtags.Arti, Amnesia: buildtags.Amnesia, PQ: true}
}

// Document makes the /version document of this binary.
func (i Info) Document(nodeID string, c Config, pq PQ) Version {
	return Version{
		Service: ServiceName, Semver: i.Semver, GitSHA: i.GitSHA, BuildTS: i.BuildTS, Go: i.Go,
		NodeID: nodeID, API: API{HTTP: "v1", OAP: 1}, Features: BuiltIn(), Config: c, PQ: pq,
	}
}

// maxDocumentBytes bounds what Check reads.
const maxDocumentBytes = 16 << 10

// Check reports whether doc, as it is served, is this binary's own /version
// document for the given node and config. Readiness asks it, so that a node
// never takes traffic under another's name or build.
func Check(doc []byte, nodeID string, c Config) error {
	if len(doc) > maxDocumentBytes {
		return errors.New("the version document is too long")
	}
	var v Version
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("the version document does not parse: %w", err)
	}
	want := Read().Document(nodeID, c, v.PQ)
	if v != want {
		return errors.New("the version document is not this binary's")
	}
	if v.PQ.KEX == "" || v.PQ.Signatures == "" {
		return errors.New("the version document does not say its post-quantum posture")
	}
	return nil
}
