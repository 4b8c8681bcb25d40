"""`inpaint` with the real classes of models, small and of random weights: pictures, batches, chains, memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OPERATORS, ROOT, picture, with_mask
from noise import assert_outside_kept, many

from imgedit import codec, engine, registry
from imgedit.engine import Engine
from imgedit.frame import Frame
from imgedit.jobs import Crop, Sampling, Synthesized
from imgedit.together import together

MODELS = ["sd-inpaint", "sd", "sd2", "xl-inpaint", "xl"]


def real(small_models: Path, kind: str, frame: Frame, **params: Any) -> Frame:
    call = engine.call("inpaint", model=str(small_models / kind), steps=2, prompt="a wall", force=True, **params)
    return Engine([call]).run(frame)


@pytest.mark.parametrize("kind", MODELS)
def test_real_models_change_nothing_outside(kind: str, small_models: Path) -> None:
    for picture_kind, size, options in (
        ("rgba16", (70, 90), {"staged": True, "latents": "mean", "scheduler": "ddim:1,ddpm:1"}),
        ("grey8", (33, 47), {"negative_prompt": "text", "guidance_scale": 1, "dilate_cells": 1}),
        ("rgb8", (200, 150), {"scheduler": "euler", "strength": 0.5}),
        ("rgb16", (120, 64), {"seed": 3}),
    ):
        frame = with_mask(picture(picture_kind, *size)).replace(icc=b"profile")
        if picture_kind == "rgb16":
            rng = np.random.default_rng(len(kind))
            weights = rng.integers(1, 256, size, np.uint8)
            frame = frame.replace(mask=np.where(rng.random(size) < 0.02, weights, np.uint8(0)))
        done = real(small_models, kind, frame, **options)
        assert_outside_kept(frame, done)
        assert done.digest != frame.digest
        step = done.sidecar.steps[-1]
        assert step.notes["strokes_lost"] == 0 and step.model and step.versions["torch"]


def test_real_models_do_not_mind_the_window(small_models: Path) -> None:
    frames = many(40)
    call = engine.call("inpaint", model=str(small_models / "sd-inpaint"), steps=1, prompt="a wall", scheduler="ddpm")
    run = Engine([call])
    backend = registry.backend("diffusion", "diffusers")
    passes: list[int] = []
    loads: list[Any] = []
    inner = backend._backend
    real_pass, real_hold = type(inner).synthesize, type(inner)._hold

    def counted(self: Any, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        passes.append(len(crops))
        return real_pass(self, sampling, crops)

    def held(self: Any, *given: Any) -> Any:
        found = real_hold(self, *given)
        if not any(found is other for other in loads):
            loads.append(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(inner), "synthesize", counted)
        patch.setattr(type(inner), "_hold", held)
        items = ((None, run.work(frame), frame.rows * frame.columns) for frame in frames)
        done = [outcome for _, outcome in together(items)]
    assert len(loads) == 1 and sum(passes) >= 53 > 2 * len(passes)
    for frame, batched in list(zip(frames, done, strict=True))[::5]:
        assert isinstance(batched, Frame)
        assert_outside_kept(frame, batched)
        alone = run.run(frame)
        assert np.abs(alone.pixels.astype(int) - batched.pixels).max() <= 1


def test_a_chain_is_one_in_pipe_and_yaml(small_models: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    codec.write_file(picture("rgb8", 90, 110), tmp_path / "a.png")
    model = small_models / "sd-inpaint"
    options = {"model": str(model), "steps": 2, "prompt": "a wall", "force": True}
    steps = [
        {"mask": {"rect": [20, 20, 30, 10]}},
        {"erase": {"force": True}},
        {"inpaint": {**options, "strength": 0.6}},
        {"upscale": {"scale": 1.5}},
    ]
    (tmp_path / "p.yaml").write_text(json.dumps({"steps": steps}))
    assert (done := run("run", "p.yaml", "a.png", "-o", "yaml.png")).returncode == 0, done.stderr
    one = codec.read_file(tmp_path / "yaml.png", codec.Limits())
    piped = run("mask", "a.png", "--rect", "20,20,30,10").stdout
    piped = run("erase", "--force", stdin=piped).stdout
    typed = ["--model", model, "--steps", 2, "--prompt", "a wall", "--force", "--strength", 0.6]
    piped = run("inpaint", *typed, stdin=piped).stdout
    (two,) = codec.read_stream(io.BytesIO(run("upscale", "--scale", 1.5, stdin=piped).stdout), codec.Limits())
    assert two.digest == one.digest and [s.stage for s in two.sidecar.steps] == ["mask", "erase", "inpaint", "upscale"]
    assert two.sidecar.steps[2].outside == {"outside_changed": 0, "outside_max": 0}
    assert str(small_models) not in (tmp_path / "yaml.png.json").read_text()
    for place in (model, small_models):
        same = run("replay", "yaml.png", "--verify", "--from", place)
        assert same.returncode == 0 and b"4 steps, the same pixels" in same.stdout, same.stderr
    lacking = run("replay", "yaml.png", "--verify")
    assert lacking.returncode == 69 and b"--model sd-inpaint is not at hand" in lacking.stderr
    assert lacking.stderr.count(b"hint: ") == 1


PEAK = """
import sys, resource
import numpy as np
from imgedit import codec, engine
from imgedit.frame import Frame
rows, columns, model = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pixels = np.zeros((rows, columns, 3), np.uint8)
for top in range(0, rows, 100):
    pixels[top : top + 100] = (np.arange(top, min(top + 100, rows))[:, None, None] + np.arange(columns)[:, None]) % 251
mask = np.zeros((rows, columns), np.uint8)
mask[rows // 2 : rows // 2 + 10, columns // 2 : columns // 2 + 20] = 255
call = engine.call("inpaint", model=model, steps=2, prompt="x", staged=sys.argv[4] == "staged")
engine.Engine([call]).run(Frame(pixels, mask=mask))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("staged", ["plain", "staged"])
def test_memory_follows_the_crop_and_not_the_picture(staged: str, small_models: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(OPERATORS)])}

    def peak(rows: int, columns: int) -> int:
        arguments = [sys.executable, "-c", PEAK, str(rows), str(columns), str(small_models / "sd-inpaint"), staged]
        done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=True)
        return int(done.stdout)

    small, large = peak(100, 120), peak(6000, 8000)
    # the picture itself: as it came, its mask, as it leaves, and where it was invented
    whole = 6000 * 8000 * (3 + 1 + 3 + 1)
    assert large <= 1.3 * (small + whole), (large / 2**20, small / 2**20, whole / 2**20)
