// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package shelf

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/document"
	index "github.com/blevesearch/bleve_index_api"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/words"
)

// metaKey is where an index keeps its Meta, beside its documents.
var metaKey = []byte("macronode/meta")

// format is of what this package writes; another one is built again.
const format = 1

// applyPatience is how long a batch may take: the library's own goroutines may have
// ended over damage, and then nobody answers.
const applyPatience = 2 * time.Minute

// Phase is how far an index has come.
type Phase string

// The phases.
const (
	ScanNames   Phase = "names"
	ScanObjects Phase = "objects"
	Complete    Phase = "complete"
)

// Meta is what an index knows of itself. It changes with the documents: what it says is
// in the index.
type Meta struct {
	Format     int    `json:"format"`
	Generation uint64 `json:"generation"`
	// Base is the change of the journal after which the index was begun, Seq
	// the last one that is in it, Through the same in the tenant's own count.
	Base    uint64 `json:"base"`
	Seq     uint64 `json:"seq"`
	Through uint64 `json:"through"`
	Phase   Phase  `json:"phase"`
	After   string `json:"after"` // where the scan goes on
}

// NewMeta is that of an index that is begun now.
func NewMeta(gen, base, through uint64) Meta {
	return Meta{Format: format, Generation: gen, Base: base, Seq: base, Through: through, Phase: ScanNames}
}

func (m Meta) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // it has no value that cannot be written
	}
	return b
}

func decodeMeta(v []byte) (m Meta, err error) {
	if err := json.Unmarshal(v, &m); err != nil {
		return m, err
	}
	if m.Format != format {
		return m, fmt.Errorf("format %d", m.Format)
	}
	return m, nil
}

// Doc is one document: an object, or an address that only names point at.
type Doc struct {
	Addr      b3.Addr  `json:"-"`
	Stored    bool     `json:"stored"` // the tenant has the object
	Size      int64    `json:"size"`
	Type      string   `json:"type"` // media type
	CreatedMS int64    `json:"created_ms"`
	Names     []string `json:"names,omitempty"`
	Title     string   `json:"title,omitempty"`
	// Partial: the object is longer than its text here.
	Partial bool `json:"partial,omitempty"`
	// Unread: the object has text, and its bytes could not be read.
	Unread bool   `json:"unread,omitempty"`
	Text   string `json:"-"`
}

// Fields of the index. nameid and major are whole values, card is the stored Doc.
const (
	fieldText    = "text"
	fieldTitle   = "title"
	fieldName    = "name"
	fieldNameID  = "nameid"
	fieldType    = "type"
	fieldSize    = "size"
	fieldCreated = "created"
	fieldCard    = "card"
)

// nowhere is size and time of what is not stored: it sorts before everything and no
// comparison finds it.
const nowhere = -1

// cutter is how texts become terms.
type cutter struct{}

// Analyze implements analysis.Analyzer.
func (cutter) Analyze(text []byte) analysis.TokenStream {
	n := len(text)/6 + 1
	tokens := make([]analysis.Token, 0, n)
	terms := make([]byte, 0, len(text))
	words.Each(text, func(w words.Word) bool {
		at := len(terms)
		terms = append(terms, w.Term...)
		tokens = append(tokens, analysis.Token{Start: w.Start, End: w.End, Term: terms[at:len(terms):len(terms)], Position: len(tokens) + 1, Type: analysis.AlphaNumeric})
		return true
	})
	stream := make(analysis.TokenStream, len(tokens))
	for i := range tokens {
		stream[i] = &tokens[i]
	}
	return stream
}

func (d *Doc) document() (*document.Document, error) {
	card, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	const found = index.IndexField | index.IncludeTermVectors
	x := document.NewDocument(d.Addr.String())
	if d.Text != "" {
		x.AddField(document.NewTextFieldCustom(fieldText, nil, []byte(d.Text), found|index.StoreField, cutter{}))
	}
	if d.Title != "" {
		x.AddField(document.NewTextFieldCustom(fieldTitle, nil, []byte(d.Title), found, cutter{}))
	}
	for i, name := range d.Names {
		at := []uint64{uint64(i)}
		x.AddField(document.NewTextFieldCustom(fieldName, at, []byte(name), found, cutter{}))
		x.AddField(document.NewTextFieldCustom(fieldNameID, at, []byte(name), index.IndexField|index.DocValues, nil))
	}
	size, created := float64(nowhere), float64(nowhere)
	if d.Stored {
		size, created = float64(d.Size), float64(d.CreatedMS)
		x.AddField(document.NewTextFieldCustom(fieldType, nil, []byte(d.Type), index.IndexField|index.DocValues, nil))
	}
	x.AddField(document.NewNumericFieldWithIndexingOptions(fieldSize, nil, size, index.IndexField|index.DocValues))
	x.AddField(document.NewNumericFieldWithIndexingOptions(fieldCreated, nil, created, index.IndexField|index.DocValues))
	x.AddField(document.NewTextFieldCustom(fieldCard, nil, card, index.StoreField, nil))
	return x, nil
}

// Index is the open index of one tenant. Reads are safe beside each other and beside
// one Apply.
type Index struct {
	b      bleve.Index
	tenant macronode.TenantID
	meta   Meta // by the one who applies
}

// Meta is what the index knows of itself. It is for the one who applies.
func (x *Index) Meta() Meta { return x.meta }

// Change is what Apply does to one document.
type Change struct {
	Doc  Doc
	Gone bool // the document goes
}

// Apply makes the changes and m in one step: both are durable when it returns, or
// neither is.
func (x *Index) Apply(list []Change, m Meta) (err error) {
	batch := x.b.NewBatch()
	for i := range list {
		c := &list[i]
		if c.Gone {
			batch.Delete(c.Doc.Addr.String())
			continue
		}
		d, err := c.Doc.document()
		if err != nil {
			return err
		}
		if err := batch.IndexAdvanced(d); err != nil {
			return err
		}
	}
	batch.SetInternal(metaKey, m.encode())
	done := make(chan error, 1)
	go func() { // awaited, but for damage that leaves nobody to answer
		var err error
		defer func() { done <- err }()
		defer guard(&err)
		err = x.b.Batch(batch)
	}()
	timer := time.NewTimer(applyPatience)
	defer timer.Stop()
	select {
	case err = <-done:
	case <-timer.C:
		err = errors.New("a batch does not end")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	x.meta = m
	return nil
}

// Cards returns what the index holds of the addresses: nil where it has no document.
func (x *Index) Cards(addrs []b3.Addr) (cards []*Doc, err error) {
	defer guard(&err)
	raw, err := x.b.Advanced()
	if err != nil {
		return nil, err
	}
	r, err := raw.Reader()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	cards = make([]*Doc, len(addrs))
	for i, a := range addrs {
		doc, err := r.Document(a.String())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if doc == nil {
			continue
		}
		if cards[i], err = readCard(doc, a, false); err != nil {
			return nil, err
		}
	}
	return cards, nil
}

// readCard reads a stored document.
func readCard(doc index.Document, a b3.Addr, text bool) (d *Doc, err error) {
	doc.VisitFields(func(f index.Field) {
		switch f.Name() {
		case fieldCard:
			d = new(Doc)
			err = errors.Join(err, json.Unmarshal(f.Value(), d))
		}
	})
	if d == nil || err != nil {
		return nil, fmt.Errorf("%w: a document cannot be read", ErrDamaged)
	}
	d.Addr = a
	if text {
		doc.VisitFields(func(f index.Field) {
			if f.Name() == fieldText {
				d.Text = string(f.Value())
			}
		})
	}
	return d, nil
}

// Tenant is whose index it is.
func (x *Index) Tenant() macronode.TenantID { return x.tenant }

// Count is how many documents there are.
func (x *Index) Count() (n uint64, err error) {
	defer guard(&err)
	return x.b.DocCount()
}

// Close closes the index; one in memory is gone.
func (x *Index) Close() (err error) {
	defer guard(&err)
	return x.b.Close()
}
