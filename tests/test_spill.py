"""Arrays in files: like any other, without a trace, and not in memory; memory stays flat as pictures grow."""

from __future__ import annotations

import gc
import io
import os
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgedit import codec, spill
from imgedit.backends import memory
from imgedit.codec import exif, strips
from imgedit.describe import described
from imgedit.engine import Engine, call
from imgedit.errors import DataError, FileError
from imgedit.frame import Frame, plane_coverage
from imgedit.ops import tone

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _unlimited() -> Iterator[None]:
    yield
    spill.configure(None)


def test_small_arrays_stay_in_memory() -> None:
    spill.configure(1 << 30)
    small = spill.empty((100, 100, 3), np.uint16)
    assert small.shape == (100, 100, 3) and small.dtype == np.uint16
    assert spill.in_memory(small) == small.nbytes
    assert spill.in_memory(small[:50, :, 0]) == small.nbytes // 6
    # without a target only what no machine has room for
    spill.configure(None)
    assert spill.in_memory(spill.empty((3000, 3000, 3), np.uint8)) == 27_000_000


def test_large_ones_hold_what_is_written_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spill.configure(1)
    random = np.random.default_rng(0)
    values = random.integers(0, 65536, (1200, 1300, 3)).astype(np.uint16)
    held = spill.empty(values.shape, np.uint16)
    assert spill.in_memory(held) == spill.in_memory(held[..., :2]) == 0
    held[:] = values
    assert list(tmp_path.iterdir()) == []
    frame = Frame(held)
    assert frame.digest == Frame(values).digest
    assert spill.in_memory(frame.pixels) == 0
    del held, frame
    gc.collect()
    assert not spill._maps


def test_pages_are_handed_back_and_come_again() -> None:
    spill.configure(64 << 20)
    held = spill.empty((64 << 20,), np.uint8)
    before = spill._mapped()
    for round_ in range(2):
        for at in range(0, len(held), 1 << 20):
            held[at : at + (1 << 20)] = at >> 20
        # on a busy machine the watch comes late
        late = time.monotonic() + 60
        while spill._mapped() - before > 16 << 20 and time.monotonic() < late:
            time.sleep(0.01)
        assert spill._mapped() - before <= 16 << 20
        assert (held[:: 1 << 20] == np.arange(64)).all(), round_


def test_nothing_is_written_where_it_does_not_belong() -> None:
    spill.configure(1)
    held = spill.empty((2000, 2000, 3), np.uint8)
    with pytest.raises(ValueError, match="values for"):
        spill.store(held[:10], np.zeros((5, 2000, 3), np.uint8))
    fixed = held[:10]
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="not to be written"):
        spill.store(fixed, np.zeros(fixed.shape, np.uint8))
    spill.let_go(held[5:5])


def test_a_full_disk_is_an_error_and_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    spill.configure(1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FileError, match="No space") as error:
        spill.empty((20 << 20,), np.uint8)
    assert "TMPDIR" in error.value.hint


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_is_read_into_a_file_all_the_same(kind: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1700, 1800, 3)).astype(kind)
    alpha = random.integers(0, 256, (1700, 1800)).astype(kind)
    codec.write_file(Frame(pixels, alpha=alpha), tmp_path / "in.png")
    spill.configure(1)
    frame = codec.read_file(tmp_path / "in.png")
    assert spill.in_memory(frame.pixels) == 0
    assert np.array_equal(frame.pixels, pixels) and frame.alpha is not None and np.array_equal(frame.alpha, alpha)


def test_memory_may_be_asked_for_beforehand() -> None:
    assert memory.budget(1000.0) <= 0.9 * memory.available() + (64 << 20)


# --- by parts, past the pages ------------------------------------------------------------------------------


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hands pages back: what is touched stays."""
    monkeypatch.setattr(spill, "_hand_back", lambda: None)


def held(values: Any) -> Any:
    """Return a copy of *values* that lies in a file."""
    spill.configure(1)
    array = spill.empty(values.shape, values.dtype)
    assert spill.in_memory(array) == 0
    spill.copy(values, array)
    return array


def _parts(length: int) -> st.SearchStrategy[Any]:
    ends = st.one_of(st.none(), st.integers(-length, length))
    return st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, 7, -1, -3]))


WHOLE = np.random.default_rng(0).integers(0, 65536, (1100, 1300, 3)).astype(np.uint16)


@given(_parts(1100), _parts(1300), st.sampled_from([np.s_[:], np.s_[1:], np.s_[0], np.s_[::2]]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_view_is_read_and_written_as_in_memory(rows: slice, columns: slice, channel: Any, turned: bool) -> None:
    array, same = held(WHOLE), WHOLE.copy()

    def view(whole: Any) -> Any:
        part = whole[rows, columns][..., channel]
        return part.swapaxes(0, 1) if turned else part

    assert np.array_equal(spill.fetch(view(array)), view(same))
    values = np.add(view(same), 12345, dtype=np.uint16)
    spill.store(view(array), values)
    view(same)[...] = values
    assert np.array_equal(array, same)


def test_what_is_in_memory_is_not_copied() -> None:
    array = np.zeros((5, 6, 3), np.uint8)
    assert spill.fetch(array) is array and spill.room(array) is array
    assert sum(map(len, spill.parts(array, 40))) == 5
    spill.store(array, array)
    doubled = spill.made(lambda part: part + 2, (5, 6, 3), np.uint8, array)
    assert (doubled == 2).all() and spill.in_memory(doubled)


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_in_a_file_is_described_without_its_pages(kind: Any) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, np.iinfo(kind).max, (3001, 4001, 3)).astype(kind)
    mask = np.zeros((3001, 4001), np.uint8)
    mask[500:900, 700:] = 255
    expected = described(Frame(pixels, mask=mask)).sidecar
    large = Frame(held(pixels), mask=held(mask))
    before = spill._mapped()
    found = described(large).sidecar
    # 36 or 72 MB, and 12 of the mask; what is loaded meanwhile is mapped too
    assert spill._mapped() - before < 6 << 20
    assert found == expected
    assert plane_coverage(large.mask) == round(np.count_nonzero(mask) / mask.size, 6)


@pytest.mark.usefixtures("unwatched")
def test_a_picture_in_a_file_is_enlarged_and_written_without_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1000, 4)).astype(np.uint8)
    frame = Frame(np.ascontiguousarray(pixels[..., :3]), alpha=np.ascontiguousarray(pixels[..., 3]))
    expected = Engine([call("upscale", scale=2)]).run(frame)
    codec.write_file(frame, tmp_path / "in.png")
    codec.read_file(tmp_path / "in.png")
    monkeypatch.setattr(spill, "_LEAST", 1 << 19)
    spill.configure(1)
    before = spill._mapped()
    large = codec.read_file(tmp_path / "in.png")
    done = Engine([call("upscale", scale=2)]).run(large)
    assert spill.in_memory(done.pixels) == 0
    codec.write_file(done, tmp_path / "out.png")
    # 3.6 MB, and 14.4 of the result, each twice: with alpha and apart
    assert spill._mapped() - before < 3 << 20
    assert done.digest == expected.digest
    assert codec.read_file(tmp_path / "out.png").digest == expected.digest


def test_the_tone_of_a_wide_picture_keeps_no_more_than_its_lattice() -> None:
    spill.configure(1)
    wide = spill.empty((400, 100_000, 3), np.uint8)
    tracemalloc.start()
    tone.measure(wide)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # each band of 10 rows has one row of the lattice at most: a view of that would keep the band, 120 MB of all
    assert taken < 40 << 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_in_files_are_turned_as_in_memory(orientation: int) -> None:
    expected = exif.turn(WHOLE, orientation)
    assert np.array_equal(exif.turn(held(WHOLE), orientation), expected)


# --- pictures that Pillow decodes --------------------------------------------------------------------------


def _saved(path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    if kind == "deep.tif":
        cv2.imwrite(str(path), WHOLE)
        return
    values = random.integers(0, 256, (1500, 2100, 4)).astype(np.uint8)
    channels = {"rgba": 4, "l": 1}.get(kind.split(".")[0], 3)
    image = Image.fromarray(values[..., 0] if channels == 1 else values[..., :channels])
    if kind.startswith("p."):
        image = image.convert("P")
    options = {"lzw": {"compression": "tiff_lzw"}, "deflate": {"compression": "tiff_deflate"}}.get(kind.split(".")[0])
    tags = {"cmyk": "CMYK", "turned": "RGB"}.get(kind.split(".")[0])
    if tags == "CMYK":
        image = image.convert("CMYK")
    exif_data = Image.Exif()
    if kind.startswith("turned"):
        exif_data[0x0112] = 6
        options = {"exif": exif_data}
    image.save(path, **(options or {}))


KINDS = (
    *("rgb.jpg", "l.jpg", "cmyk.jpg", "turned.jpg", "rgb.tif", "rgba.tif", "l.tif", "p.tif", "lzw.tif"),
    *("deflate.tif", "deep.tif", "turned.tif", "rgb.bmp", "rgb.ppm", "rgb.webp"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_other_formats_are_read_into_files_all_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / kind
    _saved(path, kind)
    expected = codec.read_file(path)
    monkeypatch.setattr(spill, "_LEAST", 1 << 19)
    spill.configure(1)
    found = codec.read_file(path)
    assert spill.in_memory(found.pixels) == 0
    assert found.digest == expected.digest
    assert found.chunks == expected.chunks and found.sidecar == expected.sidecar


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("kind", ["rgb.jpg", "rgb.tif", "lzw.tif", "deflate.tif"])
def test_other_formats_are_decoded_a_little_at_a_time(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (40, 60, 3)).astype(np.uint8)).resize((5000, 4000))
    image.save(tmp_path / kind, **({} if "rgb" in kind else {"compression": f"tiff_{kind[:-4]}"}))
    del image
    code = (
        "import re, sys\n"
        "from imgedit import codec, spill\n"
        "spill.configure(250_000_000)\n"
        "codec.read_file(sys.argv[1])\n"
        # not getrusage(), which begins with what the process that started this one held
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, kind], cwd=tmp_path, env=env, capture_output=True, check=True)
    # the picture is 60 MB, as Pillow keeps it 80
    assert int(done.stdout) < 100_000


@pytest.mark.parametrize("kind", ["rgb.jpg", "lzw.tif", "deep.tif"])
def test_damaged_ones_are_refused_as_in_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / kind
    _saved(path, kind)
    data = bytearray(path.read_bytes())
    place = len(data) // 2
    path.write_bytes(data[:place] if kind != "deep.tif" else data[:place] + bytes(64))
    monkeypatch.setattr(spill, "_LEAST", 1 << 19)
    for target in (None, 1):
        spill.configure(target)
        with pytest.raises(DataError):
            codec.read_file(path)


# --- peaks of whole commands -------------------------------------------------------------------------------


def peak(folder: Path, frame: Frame, *options: object) -> float:
    """Return the most resident memory of `imgedit upscale` from file to file, in MB."""
    codec.write_file(frame, folder / "in.png")
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'imgedit', 'upscale', 'in.png', '-o', 'out.png', *sys.argv[1:]],"
        " check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "--memory-target-gb", "0.25", *map(str, options)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=True)
    return int(done.stdout) * 1024 / 1e6


def waves(side: int, kind: str = "rgb") -> Frame:
    y = np.arange(side)
    pixels = np.stack([np.add.outer(y, y * k) % 251 for k in (1, 2, 3)], axis=2).astype(np.uint8)
    alpha = np.ascontiguousarray(pixels[..., 0])
    if kind == "rgba16":
        return Frame(pixels.astype(np.uint16) * 257, alpha=alpha.astype(np.uint16) * 257)
    return Frame(pixels, mask=alpha, planes={"hint": alpha}) if kind == "planes" else Frame(pixels)


def test_memory_is_flat(tmp_path: Path) -> None:
    # 1.4 and 7.3 megapixels, four times as many made
    peaks = [peak(tmp_path, waves(side)) for side in (1200, 2700)]
    assert max(peaks) < 1.2 * min(peaks)
    assert max(peaks) < 1.1 * 250


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rgb", "rgba16", "planes"])
def test_memory_does_not_grow_with_the_picture(kind: str, tmp_path: Path) -> None:
    # 4 and 25 megapixels: all that is made of the latter at once is 300 MB, or 1000
    peaks = [peak(tmp_path, waves(side, kind)) for side in (2000, 5000)]
    assert max(peaks) < 1.2 * min(peaks)
    assert max(peaks) < 1.1 * 250


@pytest.mark.slow
def test_networks_keep_the_target_too(tmp_path: Path) -> None:
    peaks = [peak(tmp_path, waves(side), "--backend", "hybrid") for side in (1000, 2000)]
    assert max(peaks) < 1.2 * min(peaks)
    assert max(peaks) < 1.1 * 250


def test_strips_that_name_the_same_bytes_are_not_read_again_and_again(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 3200)).save(tmp_path / "in.tif", tiffinfo={278: 10})
    data = bytearray((tmp_path / "in.tif").read_bytes())
    with Image.open(tmp_path / "in.tif") as image:
        counts = image.tag_v2[279]
    assert len(counts) == 320
    place = data.index(struct.pack("<2I", *counts[:2]))
    data[place : place + 4 * len(counts)] = struct.pack(f"<{len(counts)}I", *[len(data) - 100_000] * len(counts))
    (tmp_path / "in.tif").write_bytes(data)
    with Image.open(tmp_path / "in.tif") as image:
        assert not strips.readable(image, io.BytesIO(data))
