"""Full-size architectures on a GPU, and the same program with small models everywhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/bench"))

import diffusion as bench  # noqa: E402


def test_the_program_runs_with_small_models() -> None:
    table = bench.run(small=True, device="cpu", batches=[1, 2], steps=4)
    assert [(row.model, row.batch) for row in table] == [(m, b) for m in ("sd-inpaint", "xl-inpaint") for b in (1, 2)]
    for row in table:
        assert row.largest < 1e-4
        assert min(row.ours_s, row.theirs_s, row.ours_gb, row.theirs_gb) > 0


@pytest.mark.gpu
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_full_size_equals_diffusers_and_is_no_slower() -> None:
    table = bench.run(small=False, device="cuda", batches=[1, 4, 8], steps=20)
    for row in table:
        print(row)
        # half precision rounds differently in other batches; nothing else may differ
        assert row.mean < 0.01
        assert row.ours_s < 1.1 * row.theirs_s
        assert row.ours_gb < 1.1 * row.theirs_gb
