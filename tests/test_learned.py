"""The learned fill: waves, the network in tiles, 16 bits, threads, the shipped weights, and how they are made."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample
from conftest import ROOT, picture
from numpy.typing import NDArray
from training.scenes import SOURCES, WALLPAPERS, used

from imgedit.backends.fill import learned as backend
from imgedit.errors import DataError
from imgedit.ops import learned as ops
from imgedit.ops.harmonic import harmonic
from imgedit.ops.spectral import _pursuit as waves_of
from imgedit.ops.spectral import spectral

Array = NDArray[Any]


def strokes(rows: int, columns: int) -> Array:
    mask = np.zeros((rows, columns), np.uint8)
    mask[rows // 3 : rows // 3 + 5, 10 : columns - 10] = 255
    mask[8 : rows - 8, columns // 2 : columns // 2 + 6] = 255
    return mask


def waves(rows: int, columns: int) -> Array:
    y, x = np.mgrid[0:rows, 0:columns]
    grey = 128 + 60 * np.sin(2 * np.pi * (x + 2 * y) / 16)
    return np.rint(np.repeat(grey[..., None], 3, axis=2)).astype(np.uint8)


def error(filled: Array, truth: Array, mask: Array) -> float:
    return float(np.sqrt(np.square(filled[mask > 0].astype(float) - truth[mask > 0]).mean()))


def test_waves_go_on_through_a_stroke() -> None:
    truth, mask = waves(96, 120), strokes(96, 120)
    smooth = harmonic(truth, mask)
    filled = spectral(smooth.astype(np.float32), mask)
    assert error(filled, truth, mask) < 0.35 * error(smooth, truth, mask)
    assert np.array_equal(filled[mask == 0], truth[mask == 0].astype(np.float32))


def test_waves_are_found_however_the_transform_lies_in_memory() -> None:
    rng = np.random.default_rng(2)
    weight = rng.uniform(0, 1, (5, 32, 32)).astype(np.float32)
    tiled = np.tile(np.fft.fft2(weight).astype(np.complex64), (1, 2, 2))
    given = np.fft.rfft2(rng.normal(size=weight.shape) * weight).astype(np.complex64)
    total = weight.sum(axis=(1, 2))
    straight = waves_of(given.copy(order="C"), tiled, total, 6)
    crossed = waves_of(given.swapaxes(1, 2).copy().swapaxes(1, 2), tiled, total, 6)
    assert np.array_equal(straight, crossed)
    # one round takes one wave, and later ones others
    assert (np.count_nonzero(straight, axis=(1, 2)) > 3).all()


def test_one_colour_stays_one_colour() -> None:
    flat = np.full((70, 90, 3), (20, 130, 250), np.uint8)
    mask = strokes(70, 90)
    for filled in ops.fills(flat, mask):
        assert np.abs(filled - flat).max() < 0.51
    # however large the hole, and whatever the network says of it
    mask[20:60, 20:70] = 255
    assert np.array_equal(fill(flat, mask), flat)


@pytest.mark.parametrize("bits", [8, 16])
def test_what_the_hole_held_does_not_matter(bits: int) -> None:
    frame = picture(f"rgb{bits}", 90, 110)
    mask = strokes(90, 110)
    other = frame.pixels.copy()
    other[mask > 0] = np.iinfo(other.dtype).max - other[mask > 0]
    first, second = (fill(pixels, mask) for pixels in (frame.pixels, other))
    assert np.array_equal(first, second)


def fill(pixels: Array, mask: Array) -> Array:
    return backend.Learned().fill(pixels, mask, seed=0).pixels


def test_nothing_to_fill_from_is_refused() -> None:
    with pytest.raises(DataError):
        fill(np.zeros((20, 20, 3), np.uint8), np.full((20, 20), 255, np.uint8))


@pytest.mark.parametrize("tile", [8, 40, 64])
def test_tiles_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    rows, columns = 203, 171
    pixels = sample.photos(["brick"])["brick"][:rows, :columns]
    mask = strokes(rows, columns)
    given = ops.fills(pixels, mask)
    monkeypatch.setattr(ops, "TILE", 1 << 20)
    whole = ops.mixed(given, mask, backend._network())
    monkeypatch.setattr(ops, "TILE", tile)
    parts = ops.mixed(given, mask, backend._network())
    assert np.abs(whole - parts).max() < 0.01


def test_pieces_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = sample.photos(["brick"])["brick"][:384, :384]
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[30:36, 20:360] = mask[300:304, 20:300] = mask[60:350, 140:145] = 255
    whole = fill(pixels, mask).astype(float)
    monkeypatch.setattr(ops, "PIECE", 144)
    apart = np.abs(fill(pixels, mask) - whole)[mask > 0]
    assert apart.max() < 3 and apart.mean() < 0.3


def test_large_holes_are_filled_in_one_way_on_both_sides_of_a_join(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = sample.photos(["brick"])["brick"][:200, :512]
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[40:48, 10:500] = mask[80:160:8, 300:500] = 255
    monkeypatch.setattr(ops, "PIECE", 48)
    monkeypatch.setattr(ops, "ROUND", 48)
    monkeypatch.setattr(ops, "LARGE", 3000)
    asked = []
    real = ops.fills

    def watched(*given: Any, large: bool = False) -> Any:
        asked.append((np.count_nonzero(given[1]) >= 3000, large))
        return real(*given, large=large)

    monkeypatch.setattr(ops, "fills", watched)
    fill(pixels, mask)
    # some pieces alone would not count as large
    assert {whole for _, whole in asked} == {True} and not all(alone for alone, _ in asked)


@pytest.mark.parametrize("length", [1, 90, 768, 769, 1248, 1249, 5000])
def test_pieces_cover_a_picture_once_and_have_a_bounded_size(length: int) -> None:
    mask = np.full((1, length), 255, np.uint8)
    seen = np.zeros(length, int)
    for piece, around, own in ops._around(mask, ops.PIECE, ops.ROUND):
        seen[piece[1]] += 1
        assert around[1].stop - around[1].start <= ops.PIECE + 2 * ops.ROUND
        assert around[1].start % ops.MULTIPLE == 0  # the network's cells lie alike in all
        assert around[1].start in (0, piece[1].start - ops.ROUND)
        assert around[1].stop in (length, piece[1].stop + ops.ROUND)
        assert np.arange(length)[around[1]][own[1]].tolist() == list(range(piece[1].start, piece[1].stop))
    assert (seen == 1).all()


def test_the_network_is_shown_what_is_near_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = sample.photos(["brick"])["brick"][:200, :300]
    mask = np.zeros((200, 300), np.uint8)
    mask[90:96, 100:160] = 255
    network, shapes = backend._network(), []

    def watched(given: np.ndarray) -> np.ndarray:
        shapes.append(given.shape[2:])
        return network(given)

    filled = ops.learned(pixels, mask, watched)
    assert shapes and all(side <= most for shape in shapes for side, most in zip(shape, (6 + 48, 60 + 48)))
    monkeypatch.setattr(ops, "SHOWN", 200)
    whole = ops.learned(pixels, mask, network)
    apart = np.abs(filled.astype(int) - whole)
    assert apart.max() < 12 and apart[mask > 0].mean() < 1


def test_a_smaller_overlap_would_show() -> None:
    # the declared reach is that of the network: beyond it nothing matters, half of it would not be enough
    network = backend._network()
    rng = np.random.default_rng(5)
    given = rng.uniform(-1, 1, (1, 13, 256, 256)).astype(np.float32)
    middle = (slice(None), slice(None), slice(120, 128), slice(120, 128))
    before = network(given)[middle]
    changes = []
    for reach in (ops.REACH, ops.REACH // 2):
        other = given.copy()
        other[..., : 120 - reach, :] = rng.uniform(-1, 1, other[..., : 120 - reach, :].shape)
        other[..., :, 128 + reach :] = rng.uniform(-1, 1, other[..., :, 128 + reach :].shape)
        changes.append(float(np.abs(network(other)[middle] - before).max()))
    assert changes[0] < 1e-5 < changes[1]


def test_16_bits_are_filled_finely() -> None:
    eight = sample.photos(["brick"])["brick"][:120, :140]
    mask = strokes(120, 140)
    sixteen = fill(eight.astype(np.uint16) * 257, mask)
    inside = sixteen[mask > 0]
    assert np.abs(inside / 257 - fill(eight, mask)[mask > 0]).max() < 2
    assert np.count_nonzero(inside % 257) > 0.9 * inside.size


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_stays_grey(bits: int) -> None:
    pixels = sample.photos(["camera"])["camera"][100:200, 100:220].astype(f"uint{bits}")
    filled = fill(pixels, strokes(100, 120))
    assert (filled == filled[..., :1]).all()


def test_threads_change_nothing() -> None:
    code = (
        "import sys, numpy as np\n"
        "from imgedit.backends.fill import learned\n"
        "learned.MAX_THREADS = int(sys.argv[1])\n"
        "pixels, mask = np.load(sys.argv[2]), np.load(sys.argv[3])\n"
        "np.save(sys.argv[4], learned.Learned().fill(pixels, mask, seed=0).pixels)\n"
    )
    import os
    import tempfile

    pixels = sample.photos(["gravel"])["gravel"][:150, :150]
    pixels = np.repeat(pixels, 1, axis=2)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "pixels.npy", pixels)
        np.save(place / "mask.npy", strokes(150, 150))
        results = []
        for threads in ("1", "4"):
            out = place / f"{threads}.npy"
            env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
            arguments = [threads, str(place / "pixels.npy"), str(place / "mask.npy"), str(out)]
            subprocess.run([sys.executable, "-c", code, *arguments], env=env, check=True)
            results.append(np.load(out).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_only_the_cores_that_may_be_used_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import onnxruntime

    seen = []
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5}, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _, options, **__: seen.append(options))
    backend._network.__wrapped__()
    assert [options.intra_op_num_threads for options in seen] == [2]


def test_the_shipped_weights_are_small_and_documented() -> None:
    note = json.loads(backend.WEIGHTS.with_name(backend.WEIGHTS.name + ".json").read_text())
    packed = backend.WEIGHTS.read_bytes()
    assert len(packed) <= 2_000_000
    assert hashlib.sha256(packed).hexdigest() == note["sha256"]
    assert backend.Learned().fingerprint == {"net": f"filler sha256:{note['sha256']}"}
    seen = {source["file"].rsplit(".", 1)[0] for source in note["photographs"]}
    assert seen and not seen & set(sample.HELD_OUT)
    assert all(source["licence"] for source in note["photographs"])
    # what a plain call of the script does is what was done
    script = (ROOT / "scripts" / "train_filler.py").read_text()
    defaults = dict(re.findall(r'"--(steps|scenes|seed)", type=int, default=(\d+)', script))
    left_out = re.findall(r'"--leave-out", nargs="\*", default=\[(.*?)\]', script)[0].replace('"', "").split(", ")
    words = [word for name in ("steps", "scenes", "seed") for word in (f"--{name}", defaults[name])]
    command = ["python", "scripts/train_filler.py", "filler.onnx", *words, "--leave-out", *left_out]
    assert note["command"].split() == command
    assert note["photographs"] == [source._asdict() for source in used(SOURCES, tuple(left_out))]


def test_no_held_out_photo_can_be_trained_on() -> None:
    names = {source.name for source in (*SOURCES, *WALLPAPERS)}
    assert names and not names & set(sample.HELD_OUT)


@pytest.mark.slow
def test_the_training_script_makes_a_network_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "filler.onnx"
    program = [sys.executable, ROOT / "scripts" / "train_filler.py", out, "--steps", "3", "--scenes", "8"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "step 3 of 3" in done.stderr
    note = json.loads(Path(f"{out}.json").read_text())
    assert note["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    monkeypatch.setattr(backend, "WEIGHTS", out)
    backend._network.cache_clear()
    try:
        pixels, mask = waves(64, 80), strokes(64, 80)
        # after three steps it still is about the mean of the fills
        mean = sum(ops.fills(pixels, mask)) / 4
        assert error(fill(pixels, mask), mean, mask) < 8
    finally:
        backend._network.cache_clear()
