"""Crops of a model's size: every masked pixel is in one, none is larger than needed, and what is cut comes back."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import picture
from hypothesis import given
from hypothesis import strategies as st

from imgedit.ops import cells, crops
from imgedit.ops.crops import Crop
from imgedit.ops.holes import Hole

NATIVE, MULTIPLE, MARGIN = 64, 8, 10


def scattered(seed: int, rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((rows, columns), np.uint8)
    for _ in range(rng.integers(0, 9)):
        top, left = rng.integers(rows), rng.integers(columns)
        tall, broad = rng.integers(1, 1 + rng.choice([2, 20, 150]), 2)
        mask[top : top + tall, left : left + broad] = rng.choice([1, 255])
    return mask


def test_a_long_scratch_is_seen_at_full_size() -> None:
    mask = np.zeros((90, 1000), np.uint8)
    mask[40:42, 10:990] = 255
    planned = crops.plan(mask, NATIVE, MULTIPLE, MARGIN)
    assert len(planned) == -(-980 // (NATIVE - 2 * MARGIN)) and not any(crop.reduced for crop in planned)
    mask[10:80, 10:990] = 255  # a bar: no part of it shows what lies on both sides
    (crop,) = crops.plan(mask, NATIVE, MULTIPLE, MARGIN)
    assert crop.reduced


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 400), st.sampled_from([0, 10, 500]))
def test_every_masked_pixel_is_filled_once_by_a_crop_no_larger_than_needed(
    seed: int, rows: int, columns: int, margin: int
) -> None:
    mask = scattered(seed, rows, columns)
    planned = crops.plan(mask, NATIVE, MULTIPLE, margin)
    assert planned == crops.plan(mask.copy(), NATIVE, MULTIPLE, margin)
    filled = np.zeros_like(mask, np.int32)
    for crop in planned:
        box = crop.box
        for hole in crop.holes:
            filled[hole.slices] += 1
            assert box.top <= hole.top and box.left <= hole.left
            assert box.bottom >= hole.bottom and box.right >= hole.right
        assert crop.rows % MULTIPLE == 0 == crop.columns % MULTIPLE
        if mask.all():
            continue
        context = min(margin, NATIVE // crops.MOST_MARGIN)
        all_round = Hole(
            min(h.top for h in crop.holes),
            min(h.left for h in crop.holes),
            max(h.bottom for h in crop.holes),
            max(h.right for h in crop.holes),
        ).grown(context, mask.shape)
        assert box.top <= all_round.top and box.bottom >= all_round.bottom
        assert box.left <= all_round.left and box.right >= all_round.right
        fits = max(all_round.bottom - all_round.top, all_round.right - all_round.left) <= NATIVE
        if fits:
            assert crop.shape == (crop.rows, crop.columns) == (NATIVE, NATIVE)
        else:
            # about the model's number of pixels, never enlarged
            assert crop.rows * crop.columns <= NATIVE**2 + MULTIPLE * (crop.rows + crop.columns)
            assert crop.rows <= crop.shape[0] and crop.columns <= crop.shape[1]
        # beyond the picture only where the picture is smaller
        for start, stop, size in ((box.top, box.bottom, rows), (box.left, box.right, columns)):
            assert (start >= 0 and stop <= size) or stop - start > size
    assert filled.max(initial=0) <= 1 and (filled[mask > 0] == 1).all()


def test_holes_that_fit_together_share_a_crop() -> None:
    mask = np.zeros((500, 500), np.uint8)
    mask[100, 100] = mask[142, 100] = mask[400, 400] = mask[100, 142] = 255
    planned = crops.plan(mask, NATIVE, MULTIPLE, MARGIN)
    assert [len(crop.holes) for crop in planned] == [3, 1]
    # a mark repeated all over is many crops at full size, and not one of the whole picture
    mask = np.zeros((500, 500), np.uint8)
    mask[20::120, 20::120] = 255
    planned = crops.plan(mask, NATIVE, MULTIPLE, MARGIN)
    assert len(planned) == 16 and not any(crop.reduced for crop in planned)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 300))
def test_no_stroke_is_lost_at_any_scale(seed: int, rows: int, columns: int) -> None:
    mask = scattered(seed, rows, columns)
    for crop in crops.plan(mask, NATIVE, MULTIPLE, MARGIN):
        shown = crops.cut(mask, crop)
        assert shown.shape == crop.shape
        for_model = crops.mask_for_model(shown, crop)
        assert for_model.shape == (crop.rows, crop.columns)
        tall, broad = shown.shape[0] / crop.rows, shown.shape[1] / crop.columns
        assert cells.lost(shown, for_model, tall, broad) == 0
        in_cells = cells.to_cells(for_model, 8)
        assert cells.lost(shown, in_cells, 8 * tall, 8 * broad) == 0
        if crop.reduced and crop.rows < shown.shape[0]:
            # nor does anything of a masked pixel reach one that the model takes for known
            black = np.repeat(np.where(shown > 0, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
            assert not crops.for_model(black, crop)[for_model == 0].any()


@given(st.integers(-200, 100), st.integers(1, 300), st.integers(1, 40), st.integers(1, 40))
def test_beyond_its_edges_a_picture_is_mirrored(start: int, length: int, rows: int, columns: int) -> None:
    frame = picture("rgb8", rows, columns)
    crop = Crop(Hole(start, start, start + length, start + length), length, length, ())
    part = crops.cut(frame.pixels, crop)
    assert part.shape == (length, length, 3)
    around = np.pad(frame.pixels, ((400, 400), (400, 400), (0, 0)), "symmetric")
    assert np.array_equal(part, around[400 + start : 400 + start + length, 400 + start : 400 + start + length])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_result_comes_back_at_its_size(dtype: type) -> None:
    full = np.iinfo(dtype).max
    values = np.array([-0.5, 0, 0.25, 0.5, 1, 1.5], np.float32)[:, None, None].repeat(6, axis=1).repeat(3, axis=2)
    same = crops.from_model(values, Crop(Hole(0, 0, 6, 6), 6, 6, ()), np.dtype(dtype))
    assert same.dtype == dtype and np.array_equal(same[:, 0, 0], np.rint(np.clip(values[:, 0, 0], 0, 1) * full))
    flat = np.full((8, 16, 3), 0.6, np.float32)
    for rows, columns in ((20, 45), (8, 16), (4, 8), (3, 16)):
        back = crops.from_model(flat, Crop(Hole(0, 0, rows, columns), 8, 16, ()), np.dtype(dtype))
        assert back.shape == (rows, columns, 3) and np.abs(back / full - 0.6).max() <= 0.5 / full + 1e-6


def test_a_fill_is_kept_to_the_hole_and_meets_its_surroundings() -> None:
    known = picture("rgb8", 80, 80).pixels
    mask = np.zeros((80, 80), np.uint8)
    mask[20:60, 20:60] = 255
    darker = (known * 0.8).astype(np.uint8)
    done = crops.finished(known, darker, mask, detail=False, grey=False)
    assert np.array_equal(done[mask == 0], known[mask == 0])
    rim = mask.copy()
    rim[22:58, 22:58] = 0
    off = np.abs(done.astype(int) - known)[rim > 0].mean()
    assert off < 0.5 * np.abs(darker.astype(int) - known)[rim > 0].mean()
    assert not crops.is_grey(known, mask)
    grey = known[..., :1].repeat(3, axis=2)
    coloured = np.where(mask[..., None] > 0, known, grey)
    assert crops.is_grey(coloured, mask) and not crops.is_grey(coloured, mask * 0)
    assert not crops.is_grey(grey, np.full_like(mask, 255)), "no pixel says so"
    done = crops.finished(grey, known, mask, detail=True, grey=True)
    assert (done == done[..., :1]).all()


def test_a_mask_of_48_megapixels_takes_little_time() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((6000, 8000), np.uint8)
    for top, left in rng.integers(0, 5900, (300, 2)):
        mask[top : top + 20, left : left + 60] = 255
    start = time.process_time()
    planned = crops.plan(mask, 512, 8, 64)
    assert time.process_time() - start < 2
    assert all(crop.shape == (512, 512) for crop in planned) and len(planned) < 200
