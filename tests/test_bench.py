"""The arithmetic of the erase benchmark: known answers, honest cases, peers that are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts/bench"))
pytest.importorskip("skimage")  # brings the photos

import erase as bench  # noqa: E402
from peers import methods, tables  # noqa: E402

PHOTOS = ("camera", "moon")


@pytest.fixture(scope="module")
def cases() -> list[bench.Case]:
    return list(bench.cases(PHOTOS))


def plain() -> bench.Case:
    """A case of noise, so that it has texture, with a square hole."""
    pixels = np.random.default_rng(0).integers(50, 200, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    return bench.Case("moon", "square 64", pixels, pixels, mask)


def test_the_truth_scores_full_marks() -> None:
    case = plain()
    found = bench.score(case, case.truth, 0.5)
    assert found.psnr > 60
    assert found.ssim == pytest.approx(1)
    assert found.texture == pytest.approx(1)
    assert (found.outside, found.seconds) == (0, 0.5)


def test_one_level_everywhere_in_the_hole_is_known() -> None:
    case = plain()
    hole = case.mask > 0
    raw = case.truth.copy()
    raw[hole] += 1
    # 20×20 pixels are off by one, of 24×24 that are measured
    assert bench.score(case, raw, 0).psnr == pytest.approx(48.13 + 10 * np.log10(24**2 / 20**2), abs=0.01)


def test_what_changes_outside_is_counted_and_put_back() -> None:
    case = plain()
    raw = case.truth.copy()
    raw[:32] ^= 1
    share = ((raw != case.truth).any(axis=2) & (case.mask == 0)).sum() / (case.mask == 0).sum()
    found = bench.score(case, raw, 0)
    assert found.outside == pytest.approx(share)
    inside = case.truth.copy()
    inside[case.mask > 0] = raw[case.mask > 0]
    assert found[2:5] == bench.score(case, inside, 0)[2:5]


def test_texture_of_a_flat_fill_is_lost() -> None:
    case = plain()
    raw = case.truth.copy()
    raw[case.mask > 0] = 125
    assert bench.score(case, raw, 0).texture < 0.5


def test_cases_show_the_text_inside_the_mask_only(cases: list[bench.Case]) -> None:
    assert len(cases) == len(PHOTOS) * 5
    for case in cases:
        assert case.given.shape == case.truth.shape == (bench.SIZE, bench.SIZE, 3)
        outside = case.mask == 0
        assert np.array_equal(case.given[outside], case.truth[outside])
        if case.kind in bench.TEXTS:
            # grown by one from what is drawn: so the outermost line of the mask is as it was, the next is not
            changed = (case.given != case.truth).any(axis=2)
            assert changed.sum() > 200
            assert np.array_equal(bench.grown(changed.astype(np.uint8) * 255, 1) & ~case.mask, np.zeros_like(case.mask))
        else:
            assert np.array_equal(case.given, case.truth)
    areas = {case.kind: int((case.mask > 0).sum()) for case in cases}
    assert areas["square 64"] == 2 * 64**2
    assert areas["square 128"] == 128**2


def test_cases_of_a_photo_do_not_depend_on_the_others(cases: list[bench.Case]) -> None:
    alone = list(bench.cases(["moon"]))
    beside = [case for case in cases if case.photo == "moon"]
    assert all(np.array_equal(a.given, b.given) and np.array_equal(a.mask, b.mask) for a, b in zip(alone, beside))


def test_more_seeds_are_other_cases() -> None:
    first, second = ([case for case in bench.cases(["moon"], 2) if case.photo == label] for label in ("moon", "moon 2"))
    assert len(first) == len(second) == 5
    assert all(not np.array_equal(a.mask, b.mask) for a, b in zip(first, second))


def test_every_backend_and_every_peer_is_in_the_table() -> None:
    names = bench.every_method()
    assert {"imgedit auto", "imgedit harmonic", "FSR fast", "IOPaint cv2"} <= set(names)
    assert len(set(names)) == len(names)
    assert all(methods.method(name).name == name for name in names)


def test_a_worker_and_a_peer_that_is_not_there(cases: list[bench.Case], tmp_path: Path) -> None:
    own = bench.Bench(cases[:5], tmp_path, tmp_path / "no environments")
    result = own.measure("cv2 NS, radius 3")
    assert [score.kind for score in result.scores] == [*bench.TEXTS, *bench.SQUARES]
    assert all(score.psnr > 10 and score.seconds > 0 and score.outside == 0 for score in result.scores)
    missing = own.measure("FSR fast")
    assert not missing.scores
    known = {"cv2 NS, radius 3": result, "FSR fast": missing, tables.YARDSTICK: own.yardstick({})}
    lines = list(tables.group("photos", known, PHOTOS))
    assert sum("FSR fast" in line and "not installed" in line for line in lines) == 4
    assert any(line.startswith("mean of four") and "needs FSR fast" in line for line in lines)


def test_the_yardstick_is_the_mean(cases: list[bench.Case], tmp_path: Path) -> None:
    own = bench.Bench(cases[:1], tmp_path, tmp_path)
    known = {}
    for number, name in enumerate(tables.MEAN_OF):
        own.results(name).mkdir()
        np.save(own.results(name) / "000.npy", np.full((bench.SIZE, bench.SIZE, 3), 10 * number, np.uint8))
        known[name] = bench.Result([bench.Score("camera", "date", 20, 0.5, 1, 0.25, 0)], 10)
    found = own.yardstick(known)
    assert found.scores[0].seconds == 1
    assert found.scores[0].psnr == bench.score(cases[0], np.full_like(cases[0].given, 15), 0).psnr


def _score(kind: str, psnr: float) -> bench.Score:
    return bench.Score("moon", kind, psnr, psnr / 100, 0.7, 0.1, 0)


def test_the_gap_is_that_to_the_best_by_mean() -> None:
    kinds = (*bench.TEXTS, *bench.SQUARES)
    levels = {"imgedit auto": 25, "imgedit harmonic": 24.5, "imgedit flat": 20, "FSR fast": 24, "G'MIC pde": 23}
    results = {name: bench.Result([_score(kind, level) for kind in kinds], 1) for name, level in levels.items()}
    results[tables.YARDSTICK] = bench.Result([_score(kind, 30) for kind in kinds], 1)
    lines = list(tables.group("photos", results, ("moon",)))
    assert "text: auto − best peer (FSR fast): +1.00 dB, +0.010 SSIM, texture 0.70" in lines
    assert "squares: auto − harmonic: +0.50 dB, texture 0.70" in lines
    assert tables.best({name: r.scores for name, r in results.items()}, ("date",), ours=True) == "imgedit harmonic"
    assert list(tables.group("photos", results, ("coins",))) == ["photos: nothing measured"]


def test_a_group_is_its_photos_alone() -> None:
    kinds = (*bench.TEXTS, *bench.SQUARES)
    own = [_score(kind, 30.0)._replace(photo=photo) for kind in kinds for photo in ("coins", "coins 2")]
    others = [_score(kind, 10.0) for kind in kinds]
    results = {"imgedit auto": bench.Result(own + others, 1), "FSR fast": bench.Result(own + others, 1)}
    lines = [line for line in tables.group("photos", results, ("coins",)) if line.startswith("imgedit auto")]
    assert lines and all("30.00" in line and "10.00" not in line and "20.00" not in line for line in lines)


def test_the_benchmark_says_what_it_takes() -> None:
    for script in ("erase.py", "rivals.py"):
        words = [sys.executable, str(ROOT / "scripts/bench" / script), "--help"]
        assert "peers" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
