package router

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// ModelFile is a small text model of the harness's own: a table of a vector for each word of the intents, in
// the format of static models (a header as JSON, then the sections that it names with their SHA-256).
type ModelFile struct {
	Name string
	Seed uint64
	Flat bool // every word has the same vector: the model tells no two texts apart
	Bend func(sections map[string][]byte)
}

// modelMagic begins the file of a text model.
const modelMagic = "assaymdl"

// sectionNames are the sections of a static model, in their order.
var sectionNames = []string{"vocabulary", "ids", "scales", "rows"}

// Bytes writes the file. Bend changes sections after their digests were taken.
func (m ModelFile) Bytes() []byte {
	words := vocabulary()
	sections := map[string][]byte{"vocabulary": []byte(strings.Join(words, "\n") + "\n")}
	random := rand.New(rand.NewPCG(m.Seed, 0x6d6f64656c))
	for id := range words {
		if strings.HasPrefix(words[id], "[") {
			continue // what stands for no word has no vector
		}
		sections["ids"] = binary.LittleEndian.AppendUint16(sections["ids"], uint16(id))
		sections["scales"] = binary.LittleEndian.AppendUint32(sections["scales"], math.Float32bits(1.0/127))
		for i := range Dimension {
			value := int8(random.IntN(255) - 127)
			if m.Flat {
				value = int8(i + 1)
			}
			sections["rows"] = append(sections["rows"], byte(value))
		}
	}
	type section struct {
		Name   string `json:"name"`
		Bytes  int    `json:"bytes"`
		SHA256 string `json:"sha256"`
	}
	header := struct {
		Kind       string            `json:"kind"`
		Name       string            `json:"name"`
		Version    string            `json:"version"`
		Attributes map[string]string `json:"attributes"`
		Sections   []section         `json:"sections"`
	}{Kind: "static", Name: m.Name, Version: "1", Attributes: map[string]string{"tokenizer": "bert-uncased-wordpiece"}}
	for _, name := range sectionNames {
		header.Sections = append(header.Sections, section{name, len(sections[name]), digest(sections[name])})
	}
	head, err := json.Marshal(header)
	if err != nil {
		panic(err) // strings and numbers only: can not happen
	}
	if m.Bend != nil {
		m.Bend(sections)
	}
	out := binary.LittleEndian.AppendUint32([]byte(modelMagic), uint32(len(head)))
	out = append(out, head...)
	for _, name := range sectionNames {
		out = append(out, sections[name]...)
	}
	return out
}

// vocabulary is every word of the intents, in order, after the pieces that stand for none.
func vocabulary() []string {
	out, seen := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]"}, map[string]bool{}
	for _, in := range Intents() {
		for _, text := range append(in.Examples, in.Unseen...) {
			for _, word := range strings.Fields(strings.ToLower(text)) {
				if !seen[word] {
					seen[word] = true
					out = append(out, word)
				}
			}
		}
	}
	return out
}

// Publisher signs manifests of models with a key that lives as long as a case.
type Publisher struct{ key ed25519.PrivateKey }

// NewPublisher makes a key from a seed.
func NewPublisher(seed uint64) Publisher {
	var s [ed25519.SeedSize]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	return Publisher{ed25519.NewKeyFromSeed(s[:])}
}

// Public is the key that verifies what it signs.
func (p Publisher) Public() []byte { return p.key.Public().(ed25519.PublicKey) }

// manifestType is the DSSE type of a manifest of models.
const manifestType = "application/vnd.assay.models+json"

// Manifest is a DSSE envelope over a list of one model.
func (p Publisher) Manifest(name string, file []byte) ([]byte, error) {
	sum := sha256.Sum256(file)
	payload, err := json.Marshal(map[string]any{"models": []any{map[string]any{
		"name": name, "version": "1", "sha256": hex.EncodeToString(sum[:]), "bytes": len(file), "licence": "Apache-2.0", "source": "made by a check",
	}}})
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", name, err)
	}
	signed := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(manifestType), manifestType, len(payload), payload)
	raw, err := json.Marshal(map[string]any{
		"payloadType": manifestType, "payload": payload,
		"signatures": []any{map[string]any{"keyid": "ed25519", "sig": ed25519.Sign(p.key, signed)}},
	})
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", name, err)
	}
	return raw, nil
}

// Altered is a manifest whose payload says something else than what was signed.
func Altered(manifest []byte) ([]byte, error) {
	var e struct {
		PayloadType string            `json:"payloadType"`
		Payload     []byte            `json:"payload"`
		Signatures  []json.RawMessage `json:"signatures"`
	}
	if err := json.Unmarshal(manifest, &e); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	e.Payload = bytes.Replace(e.Payload, []byte(`"version":"1"`), []byte(`"version":"2"`), 1)
	return json.Marshal(e)
}
