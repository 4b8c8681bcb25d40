"""Damaged, hostile and impossible input: the documented code, an error and a hint, nothing new or half written."""

from __future__ import annotations

import ctypes
import io
import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, picture
from PIL import Image

from imgedit import cli, codec, engine, registry
from imgedit.stage import Param

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def ihdr(
    width: int = 4, height: int = 3, depth: int = 8, colour: int = 2, method: int = 0, interlace: int = 0
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, method, 0, interlace))


IDAT = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(12) for _ in range(3))))
IEND = chunk(b"IEND", b"")
GOOD = SIGNATURE + ihdr() + IDAT + IEND


def png(pixels: Any = None) -> bytes:
    buffer = io.BytesIO()
    codec.write_stream(buffer, picture("rgb8", 24, 30) if pixels is None else pixels)
    return buffer.getvalue()


def cases() -> Iterator[tuple[str, bytes]]:
    """Yield (what is wrong, bytes) of files that are no whole picture."""
    whole = png()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        yield f"cut at {at}", whole[:at]
    for kind in ("JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        buffer = io.BytesIO()
        Image.effect_noise((40, 40), 50).convert("RGB").save(buffer, kind)
        data = buffer.getvalue()
        for share in (0.02, 0.1, 0.3, 0.5, 0.8):
            yield f"{kind} cut at {share}", data[: int(len(data) * share)]
    rng = random.Random(7)
    for i in range(40):
        at = rng.randrange(8, len(whole) - 12)
        yield f"bit {i} turned at {at}", whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
    for name, header in {
        "no width": ihdr(0),
        "no height": ihdr(4, 0),
        "depth 3": ihdr(depth=3),
        "depth 0": ihdr(depth=0),
        "colour 5": ihdr(colour=5),
        "palette of 16 bit": ihdr(depth=16, colour=3),
        "method 1": ihdr(method=1),
        "interlace 2": ihdr(interlace=2),
        "huge": ihdr(2**31 - 1, 2**31 - 1),
        "larger than allowed": ihdr(60000, 60000),
        "larger than the data": ihdr(4, 30),
        "smaller than the data": ihdr(4, 1),
        "short": chunk(b"IHDR", b"\0\0\0\4"),
    }.items():
        yield f"header: {name}", SIGNATURE + header + IDAT + IEND
    for name, data in {
        "no header": SIGNATURE + IDAT + IEND,
        "two headers": SIGNATURE + ihdr() + ihdr() + IDAT + IEND,
        "no data": SIGNATURE + ihdr() + IEND,
        "no end": SIGNATURE + ihdr() + IDAT,
        "palette missing": SIGNATURE + ihdr(colour=3) + chunk(b"IDAT", zlib.compress(bytes(15))) + IEND,
        "palette of 4 bytes": SIGNATURE
        + ihdr(colour=3)
        + chunk(b"PLTE", b"1234")
        + chunk(b"IDAT", zlib.compress(bytes(15)))
        + IEND,
        "filter 9": SIGNATURE + ihdr() + chunk(b"IDAT", zlib.compress((b"\x09" + bytes(12)) * 3)) + IEND,
        "not deflated": SIGNATURE + ihdr() + chunk(b"IDAT", b"hello") + IEND,
        "wrong adler": SIGNATURE + ihdr() + chunk(b"IDAT", zlib.compress(bytes(39))[:-4] + b"abcd") + IEND,
        "wrong crc": SIGNATURE + ihdr() + chunk(b"IDAT", zlib.compress(bytes(39)), crc=1) + IEND,
        "data bomb": SIGNATURE + ihdr() + chunk(b"IDAT", zlib.compress(bytes(50_000_000), 9)) + IEND,
        "profile bomb": SIGNATURE
        + ihdr()
        + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(200_000_000), 9))
        + IDAT
        + IEND,
        "unknown critical chunk": SIGNATURE + ihdr() + chunk(b"ABCD", b"") + IDAT + IEND,
        "chunk length of 4 GB": SIGNATURE + ihdr() + b"\xff\xff\xff\xffIDAT" + bytes(50),
        "chunk name of control bytes": SIGNATURE + ihdr() + chunk(b"\0\1\2\3", b"") + IDAT + IEND,
        "empty": b"",
        "one byte": b"\x89",
        "text": b"hello, this is no picture at all\n" * 9,
        "a script": b"#!/bin/sh\nrm -rf x\n",
        "zeros": bytes(4096),
        "a PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
        "an EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    }.items():
        yield name, data
    head = SIGNATURE + ihdr()
    for name, text in hostile_sidecars():
        yield f"embedded sidecar: {name}", head + chunk(b"iTXt", b"imgedit\0\0\0\0\0" + text) + IDAT + IEND
    bomb = zlib.compress(b" " * 300_000_000, 9)
    yield "sidecar bomb", head + chunk(b"iTXt", b"imgedit\0\1\0\0\0" + bomb) + IDAT + IEND
    big = SIGNATURE + ihdr(30000, 30000, 8, 0) + chunk(b"IDAT", zlib.compress(bytes(1000))) + IEND
    for name, plane in {
        "no NUL": b"mask",
        "no picture": b"mask\0hello",
        "another size": b"mask\0" + png(),
        "a huge one": b"mask\0" + big,
        "a path": b"../../x\0" + GOOD,
        "an absolute path": b"/etc/x\0" + GOOD,
        "not text": b"\xff\xfe\0" + GOOD,
        "no name": b"\0" + GOOD,
    }.items():
        yield f"plane: {name}", head + chunk(b"plAN", plane) + IDAT + IEND


def hostile_sidecars() -> Iterator[tuple[str, bytes]]:
    yield "no JSON", b"hello"
    yield "a list", b"[]"
    yield "a number", b"3"
    yield "no schema", b"{}"
    yield "another schema", b'{"schema": "imgedit/99"}'
    yield "unknown key", b'{"schema": "imgedit/1", "evil": 1}'
    yield "wrong types", b'{"schema": "imgedit/1", "regions": 3}'
    yield "a region of words", b'{"schema": "imgedit/1", "regions": [{"polygon": [["a", "b"]]}]}'
    yield "a region without polygon", b'{"schema": "imgedit/1", "regions": [{"label": "x"}]}'
    yield "steps of nothing", b'{"schema": "imgedit/1", "steps": [{}]}'
    yield "NaN", b'{"schema": "imgedit/1", "regions": [{"polygon": [[NaN, 1]]}]}'
    yield "huge number", b'{"schema": "imgedit/1", "regions": [{"polygon": [[1e999, 1]]}]}'
    yield "integer of 5000 digits", b'{"schema": "imgedit/1", "regions": [{"polygon": [[' + b"9" * 5000 + b", 1]]}]}"
    yield "nested", b'{"schema": "imgedit/1", "metrics": ' + b'{"a":' * 20000 + b"1" + b"}" * 20000 + b"}"
    yield "nested lists", b"[" * 100000
    yield "not UTF-8", b'{"schema": "imgedit/1", "x": "\xff\xfe"}'
    yield "cut", b'{"schema": "imgedit/1", "regi'
    yield "a region of two corners", b'{"schema": "imgedit/1", "regions": [{"polygon": [[0, 0], [1, 1]]}]}'
    yield "a score of 2", b'{"schema": "imgedit/1", "regions": [{"polygon": [[0, 0], [1, 1], [0, 1]], "score": 2}]}'
    yield "half a character", b'{"schema": "imgedit/1", "metrics": {"a": "\\ud800"}}'
    yield "text behind it", b'{"schema": "imgedit/1"} x'
    yield "another encoding", '{"schema": "imgedit/1", "metrics": {"a": "ü"}}'.encode("utf-16")
    yield from mutated_sidecars()


#: what a sidecar may hold any JSON in
FREE = {"params", "notes", "metrics", "model"}
REQUIRED = {
    "image": ("digest", "rows", "columns", "dtype", "mode"),
    "mask": ("digest", "coverage"),
    "latents": ("encoder", "shape", "mean", "std"),
    "tone": ("quantiles", "mean", "std", "lab_mean", "lab_std"),
    "findings": ("code", "severity", "message"),
    "regions": ("polygon",),
    "steps": ("stage", "params", "source", "result"),
}


def whole_sidecar() -> Any:
    """Return a sidecar (JSON) with something in every part, of picture GOOD."""
    (frame,) = codec.read_stream(io.BytesIO(GOOD), codec.Limits())
    calls = [
        engine.call("detect-text", backend="opencv"),
        engine.call("mask", rect="0,0,1,1"),
        engine.call("preflight"),
    ]
    data = json.loads(engine.Engine(calls).run(frame).sidecar.to_json())
    data["regions"] = [{"polygon": [[0, 0], [2, 0], [2, 2]], "label": "text", "text": "2019", "score": 0.5}]
    data["metrics"] = {"rmse": {"whole": 0.5}}
    return data


def mutated_sidecars() -> Iterator[tuple[str, bytes]]:
    """Yield a good sidecar with one thing in it wrong: each key of another kind, unknown, or missing."""

    def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if path:
            yield path
        if isinstance(value, dict):
            for key in set(value) - FREE:
                yield from places(value[key], (*path, key))
        elif isinstance(value, list) and value:
            yield from places(value[0], (*path, 0))

    def changed(path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> bytes:
        data = whole_sidecar_again()
        inner = data
        for key in path[:-1]:
            inner = inner[key]
        change(inner, path[-1])
        return json.dumps(data).encode()

    text = json.dumps(whole_sidecar())

    def whole_sidecar_again() -> Any:
        return json.loads(text)

    def put(wrong: Any) -> Callable[[Any, Any], None]:
        return lambda inner, key: inner.__setitem__(key, wrong)

    for path in sorted(places(whole_sidecar_again(), ()), key=str):
        name = ".".join(map(str, path))
        inner = whole_sidecar_again()
        for key in path:
            inner = inner[key]
        yield f"{name} of another kind", changed(path, put([[[1]]] if isinstance(inner, dict) else {"a": 1}))
        if isinstance(inner, int | float) and not isinstance(inner, bool):
            yield f"{name} as text", changed(path, put("1"))
            yield f"{name} as truth", changed(path, put(True))
        if isinstance(inner, dict) and path[-1] != "versions":
            yield f"{name} with an unknown key", changed((*path, "unknown"), put(1))
        needed = REQUIRED.get(str(path[0]), ()) if isinstance(inner, dict) and len(path) <= 2 else ()
        for key in needed:
            yield f"{name} without {key}", changed((*path, key), lambda inner, key: inner.pop(key))


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run the command line in this process; return (code, stdout, stderr, files that are new or changed)."""
    monkeypatch.chdir(tmp_path)

    def state() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def call(*arguments: object) -> tuple[int, str, str, set[str]]:
        before = state()
        capfd.readouterr()
        code = cli.main([str(a) for a in arguments])
        captured = capfd.readouterr()
        after = state()
        return code, captured.out, captured.err, {name for name in after if after[name] != before.get(name)}

    return call


def assert_clean(result: tuple[int, str, str, set[str]], codes: set[int], what: str) -> None:
    code, out, err, changed = result
    assert code in codes, f"{what}: exit {code}\n{err}"
    lines = err.splitlines()
    assert any(line.startswith("error: ") for line in lines), f"{what}: {err}"
    assert any(line.startswith("hint: ") and len(line) > 8 for line in lines), f"{what}: {err}"
    assert "Traceback" not in err and out == "", f"{what}: {err}{out}"
    assert not changed, f"{what}: {changed}"


def test_damaged_pictures(command: Callable[..., Any], tmp_path: Path) -> None:
    count = 0
    for what, data in cases():
        (tmp_path / "in.png").write_bytes(data)
        result = command("mask", "in.png", "--rect", "0,0,1,1", "-o", "out.png")
        if what.startswith("bit "):  # a turned bit may hit what a checksum does not cover: the checksums' own case
            assert result[0] in (0, 65), what
            for name in result[3]:
                Path(name).unlink()
            if result[0] == 0:
                pytest.fail(f"{what} went unnoticed: every byte of a stream frame is covered by a CRC")
            continue
        assert_clean(result, {65}, what)
        count += 1
    assert count >= 150


def damaged_streams() -> Iterator[tuple[str, int, bytes]]:
    """Yield (what is wrong, whole frames before it, bytes)."""
    data = png()
    for good in (0, 1, 2):
        ahead = good * data
        yield f"cut behind {good} frames", good, ahead + data[:100]
        yield f"cut late behind {good} frames", good, ahead + data[:-1]
        yield f"a signature behind {good} frames", good, ahead + SIGNATURE
        yield f"another format behind {good} frames", good, ahead + b"GIF89a" + bytes(20)
        yield (
            f"a hostile sidecar behind {good} frames",
            good,
            ahead + SIGNATURE + ihdr() + chunk(b"iTXt", b"imgedit\0\0\0\0\0[]") + IDAT + IEND,
        )
    yield "nothing", 0, b""
    for junk in (b"x", b"\n", b"\0", SIGNATURE[:5], b"hello " * 100):
        yield f"{junk[:6]!r} behind a frame", 1, data + junk
    yield "bytes between two frames", 1, data + b"  " + data


def test_damaged_pictures_in_a_pipe(run: Callable[..., Any]) -> None:
    """Damage is 65 wherever it is; the frames before it have gone out whole, and nothing of those behind."""
    count = 0
    for what, good, data in damaged_streams():
        result = run("mask", "--rect", "0,0,1,1", stdin=data)
        assert result.returncode == 65, f"{what}: {result.returncode} {result.stderr}"
        assert b"error: " in result.stderr and b"hint: " in result.stderr and b"Traceback" not in result.stderr, what
        assert (
            len(list(codec.read_stream(io.BytesIO(result.stdout), codec.Limits()))) == good
            if good
            else (result.stdout == b"")
        ), what
        count += 1
    assert count >= 20


def test_hostile_sidecars_on_disk(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    arguments = ("mask", "in.png", "--rect", "0,0,1,1", "-o", "out.png")
    count = 0
    for what, text in hostile_sidecars():
        (tmp_path / "in.png.json").write_bytes(text)
        assert_clean(command(*arguments), {65}, what)
        count += 1
    assert count >= 150
    # and the one that they were made of is believed
    (tmp_path / "in.png.json").write_text(json.dumps(whole_sidecar()))
    assert command(*arguments)[0] == 0


def test_a_stale_sidecar_is_not_believed(command: Callable[..., Any], tmp_path: Path) -> None:
    Image.fromarray(picture("rgb8", 40, 40).pixels).save(tmp_path / "in.png")
    assert command("detect-text", "in.png", "--backend", "opencv", "-o", "a.png")[0] == 0
    Image.fromarray(picture("rgb8", 40, 40, seed=1).pixels).save(tmp_path / "a.png")
    code, out, err, _ = command("info", "a.png", "--json")
    sidecar = json.loads(out)
    assert code == 0 and "warning: " in err
    assert [step["stage"] for step in sidecar["steps"]] == ["detect-text", "external"]
    assert not any(sidecar.get(part) for part in ("regions", "latents", "tone"))


def test_sidecar_paths_are_never_written_to(command: Callable[..., Any], tmp_path: Path) -> None:
    frame = picture("rgb8", 10, 10)
    from imgedit.describe import described

    frame = described(frame)
    assert frame.sidecar.image
    import dataclasses

    frame = frame.with_sidecar(image=dataclasses.replace(frame.sidecar.image, source="../../evil.png"))
    (tmp_path / "in.png").write_bytes(png(frame))
    (tmp_path / "out").mkdir()
    code, _, _, changed = command("mask", "in.png", "--rect", "0,0,1,1", "-o", "out/")
    assert code == 0 and {Path(name).parent for name in changed} == {tmp_path / "out"}


def wrong_masks() -> Iterator[tuple[str, bytes, bool]]:
    """Yield (what is wrong, bytes of a mask for GOOD, whether --from refuses it as well)."""

    def saved(mode: str, size: tuple[int, int], colour: Any, kind: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, kind)
        return buffer.getvalue()

    for size in ((9, 9), (3, 4), (4, 2), (1, 1), (400, 300)):
        yield f"of size {size}", saved("L", size, 255), True
        yield f"of 16 bit and size {size}", saved("I;16", size, 65535), True
    yield "a JPEG of another size", saved("L", (9, 9), 255, "JPEG"), True
    yield "of colours", saved("RGB", (4, 3), (255, 0, 0)), False
    yield "of a palette of colours", saved("RGB", (4, 3), (9, 200, 0)), False
    yield "transparent", saved("LA", (4, 3), (255, 0)), False
    yield "transparent colours", saved("RGBA", (4, 3), (255, 255, 255, 9)), False
    whole = saved("L", (4, 3), 255)
    for at in (0, 1, 8, 20, 33, 45, len(whole) - 12, len(whole) - 1):
        yield f"cut at {at}", whole[:at], True
    yield "two in one file", whole + whole, False
    yield "text", b"white\n", True
    yield "a huge one", SIGNATURE + ihdr(60000, 60000, 8, 0) + IDAT + IEND, True


def test_wrong_masks(command: Callable[..., Any], tmp_path: Path) -> None:
    count = 0
    for what, data, as_source in wrong_masks():
        (tmp_path / "in.png").write_bytes(GOOD)
        (tmp_path / "in.mask.png").write_bytes(data)
        if what != "two in one file":
            assert_clean(command("erase", "in.png", "--force", "-o", "out.png"), {65}, f"beside: {what}")
            count += 1
        if as_source:
            (tmp_path / "in.mask.png").rename(tmp_path / "m.png")
            assert_clean(command("mask", "in.png", "--from", "m.png", "-o", "out.png"), {65}, f"--from: {what}")
            count += 1
    assert count >= 40


def test_impossible_places(command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    (tmp_path / "target.png").write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(tmp_path / "target.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a.jpg").write_bytes(GOOD)
    (tmp_path / "a.png").write_bytes(GOOD)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "list").write_bytes(b"none.png\0in.png\0")
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
    rect = ("--rect", "0,0,1,1")
    for what, arguments, codes in [
        ("no folder", ("in.png", "-o", "none/out.png"), {74}),
        ("no folder for many", ("in.png", "a.png", "-o", "none/"), {74}),
        ("a symbolic link", ("in.png", "-o", "link.png"), {74}),
        ("a dangling link", ("in.png", "-o", "dangling.png"), {74}),
        ("a file as folder", ("in.png", "-o", "target.png/out.png"), {74}),
        ("many into one", ("in.png", "a.png", "-o", "out.png"), {2}),
        ("two with one name", ("a.jpg", "a.png", "-o", "folder.png"), {2}),
        ("not a PNG", ("in.png", "-o", "out.jpg"), {2}),
        ("no input", ("none.png", "-o", "out.png"), {74}),
        ("no match", ("none*.png", "-o", "out.png"), {74}),
        ("an empty folder", ("folder.png", "-o", "out.png"), {74}),
        ("stdin twice", ("-", "-", "-o", "out.png"), {2}),
        ("JSON into a file", ("in.png", "--json", "-o", "out.png"), {2}),
        ("limit exceeded", ("in.png", "--max-pixels", "3", "-o", "out.png"), {65}),
        ("limit of words", ("in.png", "--max-pixels", "x", "-o", "out.png"), {2}),
        ("unknown option", ("in.png", "--dilat", "3", "-o", "out.png"), {2}),
        ("wrong value", ("in.png", "--dilate", "x", "-o", "out.png"), {2}),
        ("list and input", ("in.png", "--files0-from", "a.png", "-o", "out.png"), {2}),
        ("no list", ("--files0-from", "none", "-o", "out.png"), {74}),
        ("a folder as list", ("--files0-from", "folder.png", "-o", "out.png"), {74}),
        ("a list of what is not there", ("--files0-from", "list", "-o", "folder.png"), {74}),
        ("a pipe as output", ("in.png", "-o", "pipe.png"), {74}),
        ("a socket as output", ("in.png", "-o", "socket.png"), {74}),
        ("a socket as input", ("socket.png", "-o", "out.png"), {74}),
        ("a loop of links as input", ("loop.png", "-o", "out.png"), {74}),
        ("a loop of links as output", ("in.png", "-o", "loop.png"), {74}),
        ("a dangling link as input", ("dangling.png", "-o", "out.png"), {74}),
        ("a name of 300 letters", ("in.png", "-o", "n" * 300 + ".png"), {74}),
        ("an input of 300 letters", ("n" * 300 + ".png", "-o", "out.png"), {74}),
        ("a name of 5000 letters", ("in.png", "-o", "n/" * 2500 + ".png"), {74}),
        ("a file in a file", ("in.png/in.png", "-o", "out.png"), {74}),
        ("no ending", ("in.png", "-o", "out"), {2}),
        ("an ending alone", ("in.png", "-o", ".png"), {2}),
        ("a folder above", ("in.png", "-o", "none/../out.png"), {74}),
        ("the root", ("in.png", "a.png", "-o", "/none/here/"), {74}),
        ("kernel memory", ("/proc/self/mem", "-o", "out.png"), {65, 74}),
        ("a device", ("/dev/null", "-o", "out.png"), {65, 74}),
    ]:
        assert_clean(command("mask", *arguments, *rect), codes, what)
    assert (tmp_path / "target.png").read_bytes() == b"precious"
    assert_clean(command("erase", "in.png", "-o", "out.png"), {65}, "erase without a mask")
    assert_clean(command("erase", "in.png", "--backend", "patsh"), {2}, "unknown backend")
    assert_clean(command("eraze", "in.png"), {2}, "unknown command")
    assert_clean(command("run", "none.yaml", "in.png"), {74}, "no pipeline")
    assert_clean(command("run", "remove-date-stmap", "in.png"), {74}, "mistyped pipeline")
    assert_clean(command("compare", "in.png"), {2}, "nothing to compare with")
    assert_clean(command("compare", "in.png", "none.png"), {74}, "no reference")
    assert_clean(command("compare", "in.png", "folder.png"), {2}, "a file with a folder")
    assert_clean(command("compare", "in.png", "a.png", "--max", "rmze=1"), {2}, "unknown metric")
    assert_clean(command("compare", "in.png", "a.png", "--metric", "lpips"), {69}, "reserved metric")


def bound_by_rights() -> None:
    """Give up root's right to pass over file rights, in the program that is executed next (Linux capabilities)."""
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None).prctl
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, dropped from the bounding set
            prctl(24, capability, 0, 0, 0)


def test_files_and_folders_that_may_not_be_touched(run: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("in.png", "secret.png", "taken.png", "p.yaml", "list"):
        (tmp_path / name).write_bytes(GOOD)
    for name in ("out", "dark"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(GOOD)
    rights = {"out": 0o500, "dark": 0, "secret.png": 0, "taken.png": 0o400, "p.yaml": 0, "list": 0}
    for name, mode in rights.items():
        (tmp_path / name).chmod(mode)
    probe = [sys.executable, "-c", "open('out/probe', 'w')"]
    tried = subprocess.run(probe, cwd=tmp_path, preexec_fn=bound_by_rights, stderr=subprocess.DEVNULL)
    if tried.returncode == 0:
        pytest.skip("file rights do not bind this user, and cannot be made to")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if os.geteuid() == 0 and path.is_file()}
    rect = ("--rect", "0,0,1,1")
    for arguments in (
        ("mask", "in.png", *rect, "-o", "out/x.png"),
        ("mask", "in.png", *rect, "-o", "out/a.png"),
        ("mask", "in.png", "taken.png", *rect, "-o", "out/"),
        ("mask", "in.png", "taken.png", *rect, "--keep-going", "-o", "out/"),
        ("mask", "in.png", *rect, "-o", "dark/x.png"),
        ("mask", "in.png", *rect, "-o", "taken.png"),
        ("mask", "secret.png", *rect, "-o", "x.png"),
        ("mask", "dark", *rect, "-o", "x.png"),
        ("mask", "dark/a.png", *rect, "-o", "x.png"),
        ("mask", "in.png", "--from", "secret.png", "-o", "x.png"),
        ("compare", "in.png", "secret.png"),
        ("run", "p.yaml", "in.png", "-o", "x.png"),
        ("mask", "--files0-from", "list", *rect, "-o", "x.png"),
    ):
        result = run(*arguments, preexec_fn=bound_by_rights)
        assert result.returncode == 74, f"{arguments}: {result.returncode} {result.stderr}"
        assert b"error: " in result.stderr and b"hint: " in result.stderr, arguments
        assert b"Traceback" not in result.stderr and result.stdout == b"", arguments
    for name in rights:
        (tmp_path / name).chmod(0o700)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.png", *rights])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


WRONG = {
    "int": ("x", "1.5", "", "nan", "1e3", "0x10", "1,2"),
    "float": ("x", "", "nan", "inf", "-inf", "1,2", "1e999"),
    "choice": ("none-such", "", "REPLACE ALL"),
    "rect": ("1,2,3", "1,2,3,0", "1,2,-3,4", "1,2,x,4", "1,2,3,4,5", "", "1.5,2,3,4"),
    "polygon": ("1,1 2,2", "1,1 2,2 3", "x,y 1,1 2,2", "", "nan,1 2,2 3,3"),
    "limits": ("rmse", "rmse=x", "=1", "rmse=nan", "none-such=1", "rmse@nowhere=1", "", "rmse=inf"),
    "picture": ("", "@nowhere", "@"),
    "tone": ("", "@nowhere", "@"),
}


def wrong_options() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (command, options), of which one cannot be: every parameter of every stage with every wrong value."""

    def values(param: Param) -> Iterator[str]:
        yield from WRONG.get(param.kind, ("none-such",) if param.name == "backend" else ())
        for limit, step in ((param.opt.min, -1), (param.opt.max, 1)):
            if limit is not None:
                yield f"{limit + step:g}"

    for name in registry.stage_names():
        for param in registry.stage(name).params.values():
            if name == "compare" and param.kind == "picture":
                continue  # given as an argument there
            for value in values(param):
                yield name, (f"--{param.option}={value}",)
            if param.kind != "bool":
                yield name, (f"--{param.option}",)
        yield name, ("--none-such",)
        yield name, ("--max-pixels", "0")
        yield name, ("--max-chunk-bytes", "x")
    yield "detect-text", ("--match", "(")
    yield "detect-text", ("--match", "[z-a]")
    yield "detect-text", ("--backend", "opencv", "--match", "x")
    yield "detect-text", ("--backend", "opencv", "--overlap", "1024")
    yield "mask", ("--dilate-cells", "1")
    yield "mask", ("--rect", "50,50,3,3")
    yield "mask", ("--polygon", "50,50 60,50 60,60")
    yield "inpaint", ("--scheduler", "none-such")
    yield "inpaint", ("--scheduler", "ddim:0")
    yield "compare", ("--metric", "none-such")


def test_wrong_options(command: Callable[..., Any], tmp_path: Path) -> None:
    codec.write_file(picture("rgb8", 9, 9).replace(mask=np.eye(9, dtype=np.uint8) * 255), tmp_path / "in.png")
    (tmp_path / "ref.png").write_bytes((tmp_path / "in.png").read_bytes())
    count = 0
    for name, options in wrong_options():
        inputs = ("in.png", "ref.png") if name == "compare" else ("in.png",)
        assert_clean(command(name, *inputs, "-o", "out.png", *options), {2}, f"{name} {options}")
        count += 1
    assert count >= 150


def wrong_pipelines() -> Iterator[tuple[str, bytes]]:
    for text in (
        "",
        "steps",
        "steps:",
        "steps: []",
        "steps: mask",
        "steps: {mask: {}}",
        "- mask",
        "steps: [mask",
        "steps: [mask]\nsteps: [mask]",
        "steps: [mask]\nmore: 1",
        "steps: [3]",
        "steps: [null]",
        "steps: [[mask]]",
        "steps: [maks]",
        "steps: [run]",
        "steps: [{mask: {}, erase: {}}]",
        "steps: [{id: a}]",
        "steps: [{mask: 3}]",
        "steps: [{mask: [rect]}]",
        "steps: [{mask: {rect: 3}}]",
        "steps: [{mask: {rect: [1, 2, 3]}}]",
        "steps: [{mask: {rect: [1, 2, 3, .nan]}}]",
        "steps: [{mask: {rect: {x: 1}}}]",
        "steps: [{mask: {dilate: -1}}]",
        "steps: [{mask: {dilate: true}}]",
        "steps: [{mask: {dilate: 2019-07-14}}]",
        "steps: [{mask: {dilate: [1, 2]}}]",
        "steps: [{mask: {dilat: 1}}]",
        "steps: [{mask: {dilate: 1, dilate: 2}}]",
        "steps: [{mask: {mode: 3}}]",
        "steps: [{mask: {id: '../x'}, id: '../x'}]",
        "steps: [{mask: {}, id: a}, {erase: {}, id: a}]",
        "steps: [{match-hist: {reference: '@after-erase'}}]",
        "steps: [{match-hist: {reference: '@after-match-hist'}}]",
        "steps: [{compare: {reference: '@inptu'}}]",
        "steps: [{compare: {reference: 3}}]",
        "steps: [{detect-text: {match: '('}}]",
        "steps: [{erase: {backend: 3}}]",
        "steps: [{erase: {backend: none-such}}]",
        "steps: [{? [a] : b}]",
        "steps: [&a [*a]]",
        "steps: [*nowhere]",
        "steps: [!!python/object/apply:os.system ['touch evil']]",
        "steps: [!!python/name:os.system ]",
        "steps: [{mask: !!binary x}]",
        "steps: [{mask: {rect: !!set {1, 2}}}]",
        "steps: [mask]\nresources: 3",
        "steps: [mask]\nresources: {memory: 3}",
        "steps: [mask]\nresources: {overlap: -1}",
        "steps: [mask]\nresources: {overlap: yes}",
        "steps: [mask]\n---\nsteps: [mask]",
        "steps: [mask]\n\tx",
        "steps: [mask] # \x07",
        "%YAML 9.9\n---\nsteps: [mask]",
        "steps: " + "[" * 3000,
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nsteps: *c",
    ):
        yield text[:60], text.encode()
    yield "bytes", b"\xff\xfe\x00steps"
    yield "a picture", GOOD
    yield "NULs", bytes(100)
    yield "a megabyte", b"steps: [" + b"mask, " * 300_000 + b"]"


def test_wrong_pipelines(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    count = 0
    for what, data in wrong_pipelines():
        (tmp_path / "p.yaml").write_bytes(data)
        assert_clean(command("run", "p.yaml", "in.png", "-o", "out.png"), {2}, what)
        count += 1
    (tmp_path / "p.yaml").write_text("steps: [{mask: {rect: [0, 0, 1, 1]}}]")
    for setting in ("", "x", "mask", "mask.dilate", "mask.dilate=", "mask.dilate=x", "maks.dilate=1", "mask.dilat=1"):
        assert_clean(command("run", "p.yaml", "in.png", "-o", "out.png", "--set", setting), {2}, f"--set {setting}")
    assert count >= 50


def test_there_are_hundreds_of_distinct_cases() -> None:
    pictures = {data for what, data in cases() if not what.startswith("bit ")}
    streams = {data for _, _, data in damaged_streams()}
    sidecars = {text for _, text in hostile_sidecars()}
    masks = {data for _, data, _ in wrong_masks()}
    pipelines = {data for _, data in wrong_pipelines()}
    options = set(wrong_options())
    assert min(len(pictures), len(sidecars), len(options)) >= 150
    assert sum(map(len, (pictures, streams, sidecars, masks, pipelines, options))) >= 600


def test_full_disk(run: Callable[..., Any], tmp_path: Path) -> None:
    Image.effect_noise((200, 200), 80).convert("RGB").save(tmp_path / "in.png")
    before = sorted(p.name for p in tmp_path.iterdir())

    def tiny() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = run("mask", "in.png", "--rect", "0,0,9,9", "-o", "out.png", preexec_fn=tiny)
    assert result.returncode == 74, result.stderr
    assert b"error: " in result.stderr and b"hint: " in result.stderr and b"Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    if Path("/dev/full").exists():
        with Path("/dev/full").open("wb") as full:
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            arguments = [sys.executable, "-m", "imgedit", "mask", "in.png", "--rect", "0,0,9,9"]
            done = subprocess.run(arguments, cwd=tmp_path, env=env, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 74 and b"hint: " in done.stderr and b"Traceback" not in done.stderr


def test_names_that_are_not_text(tmp_path: Path, run: Callable[..., Any]) -> None:
    name = os.fsencode(tmp_path) + b"/a\xff\n b.png"
    with open(name, "wb") as file:  # noqa: PTH123
        file.write(GOOD)
    (tmp_path / "list").write_bytes(name + b"\0")
    (tmp_path / "out").mkdir()
    result = run("mask", "--files0-from", "list", "--rect", "0,0,1,1", "-o", "out/")
    assert result.returncode == 0, result.stderr
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/a\xff\n b.png")  # noqa: PTH110


def test_numbers_in_pictures_stay_read_only() -> None:
    frame = picture("rgb8", 4, 4)
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1
    assert isinstance(frame.pixels, np.ndarray)
