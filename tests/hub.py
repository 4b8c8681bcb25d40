"""A Hub of its own on 127.0.0.1, and its cache on disk: what tests of models need of both, without the network."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: files of this size and more are large ones, with a sha256, as on the Hub
LARGE = 1000


def safetensors(shapes: Mapping[str, tuple[int, ...]], *, fill: int = 0) -> bytes:
    """Return a safetensors file of float32 tensors; *fill* tells files of equal shapes apart."""
    entries: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes([fill]) * end


def digests(data: bytes) -> tuple[str, str]:
    """Return the sha256 of *data*, and what git calls it."""
    return hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def model(*, channels: int = 9, name: str = "StableDiffusionInpaintPipeline") -> dict[str, bytes]:
    """Return the files of a model in diffusers' layout, with what else lies beside such models on the Hub."""
    index = {
        "_class_name": name,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "image_encoder": [None, None],
    }
    weights = safetensors({"conv_in.weight": (320, channels, 3, 3)})
    half = safetensors({"conv_in.weight": (320, channels, 3, 3)}, fill=1)
    vae = safetensors({"encoder.conv_in.weight": (128, 3, 3, 3)})
    return {
        "model_index.json": json.dumps(index).encode(),
        "unet/config.json": json.dumps({"_class_name": "UNet2DConditionModel", "in_channels": channels}).encode(),
        "unet/diffusion_pytorch_model.safetensors": weights,
        "unet/diffusion_pytorch_model.fp16.safetensors": half,
        "unet/diffusion_pytorch_model.bin": b"pickle" * 300,
        "vae/config.json": json.dumps({"_class_name": "AutoencoderKL"}).encode(),
        "vae/diffusion_pytorch_model.safetensors": vae,
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"#version: 0.2\n",
        "safety_checker/config.json": b"{}",
        "safety_checker/model.safetensors": safetensors({"weight": (400,)}),
        "v1-5-pruned.safetensors": safetensors({"weight": (800,)}),
        "v1-5-pruned.ckpt": b"pickle" * 300,
        "README.md": b"# A model",
    }


def into_cache(cache: Path, id_: str, files: Mapping[str, bytes], *, commit: str = COMMIT, ref: str = "main") -> Path:
    """Write *files* as a model of the Hub's cache in its real layout; return the folder of the snapshot."""
    root = cache / f"models--{id_.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for name, data in files.items():
        sha256, sha1 = digests(data)
        blob = root / "blobs" / (sha256 if len(data) >= LARGE else sha1)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        pointer = snapshot / name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.symlink_to(Path(*[".."] * (2 + name.count("/")), "blobs", blob.name))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    return snapshot


@dataclass
class Hub:
    """What the server offers and what was asked of it. *cut*: paths whose first answer breaks off in the middle.

    *wrong*: paths that come with other bytes than are stated. *gated*: ids that want consent.
    """

    models: dict[str, Mapping[str, bytes]]
    cut: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def fetched(self) -> set[str]:
        """Return the names of the files that were sent."""
        return {path.partition(f"/resolve/{COMMIT}/")[2] for method, path, _ in self.asked if method == "GET"} - {""}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve *hub* on a free port of 127.0.0.1 while the block runs."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.served.asked.append((self.command, path, self.headers.get("Range")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            self._listing(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[3], body)
        else:
            self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        data = b'{"error": "no"}'
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "no")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _listing(self, id_: str, what: str, revision: str) -> None:
        if id_ in self.served.gated:
            return self._refuse(403, "GatedRepo")
        if id_ not in self.served.models:
            return self._refuse(404, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        listed = []
        for name, data in self.served.models[id_].items():
            sha256, sha1 = digests(data)
            lfs = (
                {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 134} if len(data) >= LARGE else None
            )
            entry = {"type": "file", "path": name, "rfilename": name, "size": len(data), "oid": sha1, "blobId": sha1}
            listed.append(entry | ({"lfs": lfs} if len(data) >= LARGE else {}))
        answer: Any = listed if what == "tree" else {"_id": "1", "id": id_, "sha": COMMIT, "siblings": listed}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _file(self, id_: str, name: str, body: bool) -> None:
        data = self.served.models.get(id_, {}).get(name)
        if data is None:
            return self._refuse(404, "EntryNotFound")
        sha256, sha1 = digests(data)
        start = 0
        if asked := re.match(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha256 if len(data) >= LARGE else sha1}"')
        if len(data) >= LARGE:
            self.send_header("X-Linked-Etag", f'"{sha256}"')
            self.send_header("X-Linked-Size", str(len(data)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return None
        sent = bytes(len(data)) if name in self.served.wrong else data
        if name in self.served.cut and not start:
            self.served.cut.discard(name)
            self.wfile.write(sent[: len(sent) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return None
        self.wfile.write(sent[start:])
        return None
