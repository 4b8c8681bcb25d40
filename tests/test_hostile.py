"""Damaged, hostile and impossible input: the documented code, an error and a hint, nothing new or half written."""

from __future__ import annotations

import io
import json
import os
import random
import resource
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

from imgedit import cli, codec

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


def test_damaged_pictures_in_a_pipe(run: Callable[..., Any]) -> None:
    data = png()
    for broken in (b"", data[:100], data + data[:200], data + b"x", data + SIGNATURE[:5]):
        result = run("match-hist", "--reference", "@input", stdin=broken)
        assert result.returncode == 65 or (result.returncode == 2 and broken[: len(data)] == data)
        assert b"error: " in result.stderr and b"hint: " in result.stderr and b"Traceback" not in result.stderr


def test_hostile_sidecars_on_disk(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    for what, text in hostile_sidecars():
        (tmp_path / "in.png.json").write_bytes(text)
        assert_clean(command("mask", "in.png", "--rect", "0,0,1,1", "-o", "out.png"), {65}, what)


def test_a_stale_sidecar_is_not_believed(command: Callable[..., Any], tmp_path: Path) -> None:
    Image.fromarray(picture("rgb8", 40, 40).pixels).save(tmp_path / "in.png")
    assert command("detect-text", "in.png", "--backend", "opencv", "-o", "a.png")[0] == 0
    Image.fromarray(picture("rgb8", 40, 40, seed=1).pixels).save(tmp_path / "a.png")
    code, out, err, _ = command("info", "a.png", "--json")
    sidecar = json.loads(out)
    assert code == 0 and "warning: " in err
    assert [step["stage"] for step in sidecar["steps"]] == ["detect-text", "external"]
    assert not {"regions", "latents", "tone"} & set(sidecar)


def test_sidecar_paths_are_never_written_to(command: Callable[..., Any], tmp_path: Path) -> None:
    frame = picture("rgb8", 10, 10)
    from imgedit.engine import described

    frame = described(frame)
    assert frame.sidecar.image
    import dataclasses

    frame = frame.with_sidecar(image=dataclasses.replace(frame.sidecar.image, source="../../evil.png"))
    (tmp_path / "in.png").write_bytes(png(frame))
    (tmp_path / "out").mkdir()
    code, _, _, changed = command("mask", "in.png", "--rect", "0,0,1,1", "-o", "out/")
    assert code == 0 and {Path(name).parent for name in changed} == {tmp_path / "out"}


def test_masks_of_another_size(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    Image.new("L", (9, 9)).save(tmp_path / "in.mask.png")
    assert_clean(command("erase", "in.png", "-o", "out.png"), {65}, "plane beside")
    assert_clean(command("mask", "in.png", "--from", "in.mask.png", "-o", "out.png"), {65}, "--from")


def test_impossible_places(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    (tmp_path / "target.png").write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(tmp_path / "target.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a.jpg").write_bytes(GOOD)
    (tmp_path / "a.png").write_bytes(GOOD)
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(GOOD)
    (tmp_path / "out").mkdir(mode=0o500)
    assert_clean(command("mask", "in.png", "--rect", "0,0,1,1", "-o", "out/x.png"), {74}, "read-only")


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
