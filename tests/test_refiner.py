"""The refiner: nearer the truth, the same in any tiles, centred, and how its network was made."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("skimage")  # brings the photos

import sample  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from training.fine import Fine  # noqa: E402
from training.refiner import Refiner, between, grown  # noqa: E402
from training.scenes import SOURCES, used  # noqa: E402

from imgedit.backends.upscale import hybrid as backend  # noqa: E402
from imgedit.backends.upscale._by_refining import Refining  # noqa: E402
from imgedit.backends.upscale.lanczos import Lanczos  # noqa: E402
from imgedit.errors import UsageError  # noqa: E402
from imgedit.ops import refine, residual  # noqa: E402


def _bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_upscale", ROOT / "scripts/bench/upscale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench = _bench()
SCALES = (2, 3, 4, 1.5, 3.3, 5.7)
#: photos that the network was not trained on
UNSEEN = ("grace_hopper", "gravel", "moon")


def photo(name: str, rows: int = 130, columns: int = 171) -> Any:
    picture = sample.photos([name])[name]
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    return np.ascontiguousarray(picture[top : top + rows, left : left + columns])


def noise(rows: int, columns: int, channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (rows, columns, channels))
    return values.astype(dtype)


def size(pixels: Any, scale: float) -> tuple[int, int]:
    return max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))


def enlarged(pixels: Any, scale: float, sharpen: float = 0.05) -> Any:
    return backend.Hybrid().upscale(pixels, *size(pixels, scale), sharpen=sharpen).pixels


def levels(pixels: Any, scale: float, tile: int = 512, sharpen: float = 0.05, network: Any = None) -> Any:
    """Return the result before it is rounded, in levels of 0…255."""
    refined = refine.Refined(pixels, size(pixels, scale), network or backend._network(), sharpen)
    result = np.empty((*refined.size, pixels.shape[2]), np.float32)
    for part in Refining(refined, tile):
        rows, columns = part.values.shape[1:]
        result[part.top : part.top + rows, part.left : part.left + columns] = part.values.transpose(1, 2, 0)
    return result


def nothing(given: Any, scale: int) -> Any:
    """A network that adds nothing."""
    return np.zeros((3 * scale * scale, *given.shape[1:]), np.float32)


@pytest.fixture
def threads() -> Iterator[Any]:
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)


# --- tiles and threads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_no_pixel_depends_on_the_tiles(scale: float) -> None:
    pixels = photo("motorcycle_left", 97, 131)
    whole = levels(pixels, scale)
    for tile in (64, 80):
        assert np.abs(levels(pixels, scale, tile) - whole).max() <= 1e-5 * 255


def test_large_tiles_too() -> None:
    pixels = np.ascontiguousarray(np.tile(photo("coins", 130, 171), (1, 4, 1))[:70, :600])
    whole = levels(pixels, 2, 1024)
    for tile in (256, 512):
        assert np.abs(levels(pixels, 2, tile) - whole).max() <= 1e-5 * 255


@pytest.mark.parametrize(("name", "value"), [("REACH", 4), ("_SEEDED", -10)])
def test_too_small_an_overlap_is_seen(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photo("motorcycle_left", 70, 90)
    whole = levels(pixels, 2)
    monkeypatch.setattr(refine, name, value)
    assert np.abs(levels(pixels, 2, 40) - whole).max() > 2e-5 * 255


@pytest.mark.parametrize("scale", residual.SCALES)
def test_the_network_looks_as_far_as_is_said(scale: int) -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal((residual.channels(scale), 1, 41)).astype(np.float32)
    other = given.copy()
    other[:, 0, 20] += 5
    changed = np.abs(backend._network()(given, scale) - backend._network()(other, scale)).max(axis=(0, 1))
    assert np.flatnonzero(changed > 1e-4).min() >= 20 - refine.REACH
    assert np.flatnonzero(changed > 1e-4).max() <= 20 + refine.REACH
    # and the declared reach is no larger than it must be
    assert changed[20 - refine.REACH] > 0
    assert changed[20 + refine.REACH] > 0


def test_threads_change_nothing(threads: Any) -> None:
    pixels = np.tile(photo("coins", 60, 60), (1, 8, 1))
    results = []
    for count in (1, 4):
        threads(count)
        results.append(enlarged(pixels, 2))
    assert np.array_equal(results[0], results[1])


def test_memory_does_not_grow_with_the_picture(threads: Any) -> None:
    threads(1)
    beyond = []
    for rows in (150, 1200):
        refined = refine.Refined(noise(rows, 60), (2 * rows, 120), nothing)
        result = np.empty((2 * rows, 120, 3), np.uint8)
        tracemalloc.start()
        for part in Refining(refined, 64):
            refined.write(result, part.values, part.top, part.left)
        beyond.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert beyond[1] < 1.2 * beyond[0]


# --- how near, and where ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "gain"), [(2, 1.0), (3, 0.6), (4, 0.6)])
def test_unseen_photos_come_back_better_than_by_any_interpolation(scale: int, gain: float) -> None:
    pictures = {name: photo(name, 240, 240) for name in UNSEEN}
    names = (*bench.PLAIN, "imgedit lanczos", "imgedit hybrid")
    *plain, lanczos, ours = (bench.scores(bench.METHODS[name], pictures, scale) for name in names)

    def mean(scores: dict[str, Any]) -> float:
        return float(np.mean([one.psnr for one in scores.values()]))

    assert mean(ours) > max(mean(scores) for scores in plain) + gain
    assert mean(ours) > mean(lanczos) + gain / 3
    for name in UNSEEN:
        assert ours[name].psnr > lanczos[name].psnr - 0.1
        # the moon, soft and grainy, comes back best by the softest interpolation at scale 2
        assert ours[name].psnr > max(scores[name].psnr for scores in plain) - 0.25
        assert ours[name].drift < 0.02
        # nan where there is no edge
        assert not ours[name].edges > 0.1


def degraded(name: str, kind: str) -> Any:
    """Return a photo as cameras and careless programs leave it."""
    picture = photo(name, 240, 240)
    if kind == "every second pixel":
        return np.ascontiguousarray(picture[::2, ::2])
    if kind == "noisy":
        grain = np.random.default_rng(0).normal(0, 8, picture.shape)
        return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)
    if kind == "sharpened":
        values = np.array(Image.fromarray(picture).resize((120, 120), Image.Resampling.LANCZOS), np.float32)
        values += values - cv2.GaussianBlur(values, (0, 0), 0.7)
        picture = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return sample.jpeg(picture, 80)


@pytest.mark.parametrize("kind", ["every second pixel", "sharpened", "noisy", "jpeg"])
@pytest.mark.parametrize("scale", [2, 4])
def test_no_degraded_photo_comes_back_worse_than_by_lanczos(kind: str, scale: int) -> None:
    pictures = {name: degraded(name, kind) for name in UNSEEN}
    ours, lanczos = (bench.scores(bench.METHODS[f"imgedit {name}"], pictures, scale) for name in ("hybrid", "lanczos"))
    for name in UNSEEN:
        assert ours[name].psnr > lanczos[name].psnr - 0.05


def test_regular_patterns_about_as_fine_as_the_pixels_come_back_hardly_worse_than_by_lanczos() -> None:
    y, x = np.mgrid[0:120, 0:120]
    gains = []
    for form in (lambda u, v: np.maximum(u, v) - 0.5, lambda u, v: u * v - 0.2):
        for period in (4.6, 5.5, 6.0, 7.0):
            for turn in (0.0, 0.3, 0.785):
                waves = (
                    np.sin(2 * np.pi * (np.cos(turn) * a + np.sin(turn) * b) / period) for a, b in ((x, y), (y, -x))
                )
                pattern = np.rint(128 + 70 * np.tanh(6 * form(*waves)))
                truth = {"pattern": np.repeat(pattern.astype(np.uint8)[..., None], 3, axis=2)}
                hybrid, lanczos = (
                    bench.scores(bench.METHODS[f"imgedit {name}"], truth, 2)["pattern"].psnr
                    for name in ("hybrid", "lanczos")
                )
                gains.append(hybrid - lanczos)
    # a network that has seen none loses 0.3 dB on average
    assert np.mean(gains) > -0.1


@pytest.mark.parametrize("scale", [1.5, 2.5, 3.3])
def test_fractional_scales_are_better_than_by_interpolation_too(scale: float) -> None:
    truth = photo("grace_hopper", 240, 240)
    small = np.array(Image.fromarray(truth).resize((round(240 / scale),) * 2, Image.Resampling.BICUBIC))
    results = {
        name: bench.METHODS[name](small, 240, 240) for name in (*bench.PLAIN, "imgedit lanczos", "imgedit hybrid")
    }
    found = {name: bench.score(result, truth) for name, result in results.items()}
    ours = found.pop("imgedit hybrid")
    assert ours.psnr > max(other.psnr for other in found.values()) + 0.3
    assert ours.drift < 0.02


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_reduced_result_is_near_the_input(scale: int) -> None:
    pixels = photo("grace_hopper")
    plain = np.asarray(Image.fromarray(pixels).resize(size(pixels, scale)[::-1], Image.Resampling.LANCZOS))

    def off(result: Any) -> float:
        again = Image.fromarray(result).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
        return float(np.abs(np.asarray(again).astype(int) - pixels).mean())

    assert off(enlarged(pixels, scale)) < 0.5 * off(plain)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0, 78, 255])
def test_flat_stays_flat(scale: float, value: int) -> None:
    assert (enlarged(np.full((33, 40, 3), value, np.uint8), scale) == value).all()


@pytest.mark.parametrize("scale", SCALES)
def test_a_ramp_is_not_shifted(scale: float) -> None:
    pixels = np.broadcast_to((4 * np.arange(60) + 9)[None, :, None], (30, 60, 3)).astype(np.uint8)
    result = levels(pixels, scale)
    centres = (np.arange(result.shape[1]) + 0.5) * 60 / result.shape[1] - 0.5
    inner = (centres > 12) & (centres < 47)
    off = (result[:, inner] - (4 * centres[inner] + 9)[None, :, None]) / 4
    assert abs(off.mean()) < 0.01
    assert np.abs(off).max() < 0.3


def test_without_a_network_it_is_the_deterministic_result_within_rounding() -> None:
    pixels = photo("camera")
    plain = Lanczos().upscale(pixels, 260, 342).astype(float)
    assert np.abs(levels(pixels, 2, network=nothing) - plain).mean() < 0.6


# --- depth, grey, alpha, sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3.3])
def test_16_bit_gives_the_8_bit_result_but_finer(scale: float) -> None:
    pixels = photo("motorcycle_left")
    fine = enlarged(pixels.astype(np.uint16) * 257, scale)
    assert fine.dtype == np.uint16
    off = np.abs(fine / 257 - enlarged(pixels, scale))
    assert off.mean() < 0.4
    assert (fine % 257 != 0).mean() > 0.5


@pytest.mark.parametrize("scale", [2, 3.3])
def test_grey_stays_grey(scale: float) -> None:
    result = enlarged(noise(40, 31, 1).repeat(3, axis=2), scale)
    assert (result == result[..., :1]).all()


@pytest.mark.parametrize("scale", [2, 1.5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_pictures_are_as_without_alpha(scale: float, dtype: Any) -> None:
    pixels, full = noise(40, 50, dtype=dtype), np.iinfo(dtype).max
    result = enlarged(np.dstack((pixels, np.full((40, 50), full, dtype))), scale)
    assert np.array_equal(result[..., :3], enlarged(pixels, scale))
    assert (result[..., 3] == full).all()


@pytest.mark.parametrize("scale", [2, 3, 1.5, 5.7])
def test_hidden_colours_do_not_come_through(scale: float) -> None:
    pixels = np.dstack((photo("motorcycle_left", 60, 80), np.full((60, 80), 255, np.uint8)))
    pixels[noise(60, 80, 1)[..., 0] > 128, 3] = 0
    pixels[10:50, 20:70, 3] = 0
    other = pixels.copy()
    other[other[..., 3] == 0, :3] = (255, 0, 255)
    result, same = enlarged(other, scale), enlarged(pixels, scale)
    assert np.array_equal(result[..., 3], same[..., 3])
    seen = result[..., 3] > 0
    assert np.array_equal(result[seen], same[seen])
    if scale == 2:
        assert np.array_equal(result[..., 3], Lanczos().upscale(pixels, 120, 160)[..., 3])
        # far from what is seen, they keep what they were
        assert (result[60, 90] == (255, 0, 255, 0)).all()


def test_alpha_does_not_depend_on_the_tiles() -> None:
    pixels = np.dstack((photo("motorcycle_left", 90, 120), noise(90, 120, 1)))
    pixels[:, :40, 3] = 255
    pixels[20:60, 50:100, 3] = 0
    for scale in (2, 1.5):
        assert np.abs(levels(pixels, scale, 40) - levels(pixels, scale)).max() <= 1e-5 * 255


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (17, 31)])
@pytest.mark.parametrize("scale", [1, 1.01, 2, 3, 4, 7.5])
def test_every_size_works(shape: tuple[int, int], scale: float) -> None:
    pixels = noise(*shape, 4)
    result = enlarged(pixels, scale)
    assert result.shape == (*size(pixels, scale), 4)
    if result.shape == pixels.shape:
        assert np.array_equal(result, pixels)


def test_rows_and_columns_may_grow_differently() -> None:
    pixels = photo("coins", 40, 50)
    assert backend.Hybrid().upscale(pixels, 40, 150).pixels.shape == (40, 150, 3)
    assert backend.Hybrid().upscale(pixels, 120, 100).pixels.shape == (120, 100, 3)


def test_sharpen_adds_contrast_to_detail() -> None:
    pixels = photo("camera")
    detail = [np.abs(np.diff(enlarged(pixels, 2, sharpen).astype(float), axis=1)).mean() for sharpen in (0, 0.3, 1.0)]
    assert detail[0] < detail[1] < detail[2]


def test_it_never_makes_smaller() -> None:
    with pytest.raises(UsageError):
        backend.Hybrid().upscale(noise(10, 10), 9, 20)


def test_the_command_records_the_network(run: Any, tmp_path: Path) -> None:
    Image.fromarray(photo("coins", 40, 50)).save(tmp_path / "a.png")
    done = run("upscale", "a.png", "--backend", "hybrid", "--scale", "1.5", "-o", "b.png")
    assert done.returncode == 0, done.stderr
    step = json.loads((tmp_path / "b.png.json").read_text())["steps"][-1]
    assert step["backend"] == "hybrid"
    assert backend.Hybrid().fingerprint["net"] in json.dumps(step)
    with Image.open(tmp_path / "b.png") as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), enlarged(photo("coins", 40, 50), 1.5))


# --- what the network is given ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", residual.SCALES)
def test_planes_for_each_place_go_back_together(scale: int) -> None:
    planes = noise(6 * scale, 7 * scale, 3).transpose(2, 0, 1)
    parts = residual.apart(planes, scale)
    assert np.array_equal(parts[scale + 1], planes[0, 1::scale, 1::scale])
    assert np.array_equal(residual.together(parts, scale), planes)


@pytest.mark.parametrize("scale", residual.SCALES)
def test_brightness_is_not_given(scale: int) -> None:
    small = noise(12, 13).astype(np.float32) / 2
    large = noise(12 * scale, 13 * scale).astype(np.float32) / 2
    off = residual.given(small, large, scale) - residual.given(small + 60, large + 60, scale)
    assert np.abs(off).max() < 1e-4
    assert residual.given(small, large, scale).shape == (residual.channels(scale), 12, 13)


@pytest.mark.parametrize("scale", residual.SCALES)
def test_the_reduction_is_pillows(scale: int) -> None:
    pixels = noise(20 * scale, 20 * scale)
    matrix = residual.reduction(20, scale)
    ours = np.einsum("ij,jkc,lk->ilc", matrix, pixels, matrix)
    theirs = np.asarray(Image.fromarray(pixels).resize((20, 20), Image.Resampling.BICUBIC))
    assert np.abs(np.clip(ours, 0, 255) - theirs).max() <= 1.5


def test_back_projection_brings_the_reduced_picture_nearer() -> None:
    small = photo("coins", 20, 30).transpose(2, 0, 1).astype(np.float32)
    flat = np.full((3, 40, 60), 80, np.float32)
    assert np.abs(residual.projected(flat, np.full_like(small, 90), 2) - 90).max() < 1e-3

    def off(planes: Any) -> float:
        return float(np.abs(residual.reduction(20, 2) @ planes @ residual.reduction(30, 2).T - small).mean())

    assert off(residual.projected(flat, small, 2)) < 0.2 * off(flat)


def test_known_shifts_are_measured() -> None:
    truth = photo("camera", 200, 200)
    assert bench.shifts(truth, truth) == (0, 0)
    for x, y in ((0.3, 0.0), (-0.2, 0.1)):
        moved = cv2.warpAffine(truth, np.float32([[1, 0, x], [0, 1, y]]), (200, 200), flags=cv2.INTER_CUBIC)
        whole, edges = bench.shifts(moved[4:-4, 4:-4], truth[4:-4, 4:-4])
        assert whole == pytest.approx(np.hypot(x, y), rel=0.25)
        assert 0.5 * np.hypot(x, y) < edges < 1.3 * np.hypot(x, y)


def test_the_tables_count_from_the_best_interpolation() -> None:
    def scores(*psnr: float) -> dict[str, Any]:
        return {name: bench.Score(value, 0.9, 0.01, 0.02) for name, value in zip("ab", psnr)}

    found = {name: scores(30 + i, 20 - 2 * i) for i, name in enumerate(bench.PLAIN)}
    found |= {"imgedit hybrid": scores(32, 21), "libvips": "not installed: apt-get install libvips-tools"}
    lines = list(bench.table(found, {"imgedit hybrid": (1.5, 2.5, 30)}))
    ours = next(line for line in lines if line.startswith("imgedit hybrid")).split()
    assert ours[2:] == ["26.50", "0.9000", "+1.50", "-1.00", "0.010", "0.020", "1.50", "2.50", "30"]
    assert any("libvips" in line and "not installed" in line for line in lines)


# --- what the network learned from -----------------------------------------------------------------------


def test_the_same_seed_draws_the_same_fine_scenes() -> None:
    scenes = Fine(96, UNSEEN)
    drawn = [scenes.draw(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(scene.shape == (96, 96, 3) and scene.dtype == np.uint8 for scene in drawn)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_what_is_decimated_is_crisp_and_what_is_soft_is_not() -> None:
    scenes = Fine(96, UNSEEN)

    def fine(make: Any) -> float:
        """The share of steps between neighbours in steps between every second pixel, over many scenes."""
        total = np.zeros(2)
        for seed in range(20):
            values = make(np.random.default_rng(seed)).astype(float)
            total += [np.square(np.diff(values, axis=1)).sum(), np.square(values[:, 2:] - values[:, :-2]).sum()]
        return float(total[0] / total[1])

    assert fine(scenes.decimated) > 1.15 * fine(scenes.photograph) > 1.3 * fine(scenes.soft)
    assert fine(scenes.pattern) > 1.3 * fine(scenes.soft)


def test_a_grown_network_does_the_same_and_a_mean_lies_between() -> None:
    torch.manual_seed(0)
    net = Refiner()
    for last in net.last.values():
        torch.nn.init.normal_(last.weight, std=0.02)
    larger = grown(net)
    planes = torch.randn(1, residual.channels(2), 9, 11)
    assert len(larger.inner) > len(net.inner)
    assert torch.equal(larger(planes, 2), net(planes, 2))
    other = deepcopy(larger)
    for weights in other.parameters():
        weights.data += 0.1
    middle = between(deepcopy(larger), other, 0.25)
    for one, two, own in zip(larger.parameters(), other.parameters(), middle.parameters()):
        assert torch.allclose(own, 0.75 * one + 0.25 * two, atol=1e-6)


# --- the shipped weights ---------------------------------------------------------------------------------


def test_the_shipped_weights_are_small_and_documented() -> None:
    note = json.loads(backend.WEIGHTS.with_name(backend.WEIGHTS.name + ".json").read_text())
    packed = backend.WEIGHTS.read_bytes()
    assert len(packed) <= 1_000_000
    assert hashlib.sha256(packed).hexdigest() == note["sha256"]
    assert backend.Hybrid().fingerprint == {"net": f"refiner sha256:{note['sha256']}"}
    seen = {source["file"].rsplit(".", 1)[0] for source in note["photographs"]}
    assert seen and not seen & {*sample.HELD_OUT, *UNSEEN}
    assert all(source["licence"] for source in note["photographs"])
    # what a plain call of the script does is what was done
    script = (ROOT / "scripts" / "train_refiner.py").read_text()
    defaults = dict(re.findall(r'"--(steps|more|scenes|seed)", type=int, default=(\d+)', script))
    left_out = re.findall(r'"--leave-out", nargs="\*", default=\[(.*?)\]', script)[0].replace('"', "").split(", ")
    words = [word for name in ("steps", "more", "scenes", "seed") for word in (f"--{name}", defaults[name])]
    command = ["python", "scripts/train_refiner.py", "refiner.onnx", *words, "--leave-out", *left_out]
    assert note["command"].split() == command
    assert note["photographs"] == [s._asdict() for s in used(SOURCES, tuple(left_out))]


@pytest.mark.slow
def test_the_training_script_makes_a_network_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "refiner.onnx"
    options = ["--steps", "4", "--more", "3", "--scenes", "10"]
    program = [sys.executable, ROOT / "scripts" / "train_refiner.py", out, *options]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "step 4 of 4" in done.stderr
    assert "step 3 of 3" in done.stderr
    note = json.loads(Path(f"{out}.json").read_text())
    assert note["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    monkeypatch.setattr(backend, "WEIGHTS", out)
    backend._network.cache_clear()
    try:
        pixels = photo("coins", 40, 50)
        for scale in residual.SCALES:
            # after a few steps it still adds next to nothing
            plain = Lanczos().upscale(pixels, *size(pixels, scale)).astype(float)
            assert np.abs(enlarged(pixels, scale) - plain).mean() < 4
    finally:
        backend._network.cache_clear()
