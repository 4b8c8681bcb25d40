"""Models of other families, run whole by diffusers' pipeline for them."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgedit import registry
from imgedit.errors import DataError, UsageError
from imgedit.jobs import Crop, Sampling

pytest.importorskip("torch")
pytest.importorskip("diffusers")

SIDE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small Stable Diffusion 3, a transformer trained by flow matching, without its third text encoder."""
    import small_models
    import torch
    from diffusers import AutoencoderKL, SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection

    folder: Path = tmp_path_factory.mktemp("other") / "sd3"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=72,
            caption_projection_dim=32,
            pooled_projection_dim=72,
            pos_embed_max_size=8,
        ).save_pretrained(folder / "transformer")
        AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            norm_num_groups=4,
            sample_size=SIDE,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.06,
            scaling_factor=1.5,
        ).save_pretrained(folder / "vae")
        for ending, width in (("", 32), ("_2", 40)):
            text = CLIPTextModelWithProjection(small_models.text_config(width, projected=True))
            text.save_pretrained(folder / f"text_encoder{ending}")
            small_models.tokenizer(folder / f"tokenizer{ending}", padding="!")
    (folder / "scheduler").mkdir()
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(flow))
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "_diffusers_version": "0.30.0",
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        **{f"text_encoder{end}": ["transformers", "CLIPTextModelWithProjection"] for end in ("", "_2")},
        **{f"tokenizer{end}": ["transformers", "CLIPTokenizer"] for end in ("", "_2")},
        "text_encoder_3": [None, None],
        "tokenizer_3": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def backend() -> Any:
    return registry.backend_class("diffusion", "diffusers")()


def sampling(model: Path, **options: Any) -> Sampling:
    return Sampling(str(model), **{"prompt": "a wall", "steps": 4, "strength": 0.8, "device": "cpu", **options})


def crop(seed: int) -> Crop:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:12, 4:60] = 255
    return Crop(pixels, mask, seed)


def test_another_family_runs_and_says_what_ran(backend: Any, model: Path) -> None:
    geometry = backend.geometry(sampling(model))
    assert (geometry.native, geometry.grid, geometry.multiple_of) == (SIDE, 8, 16)
    assert backend.most(sampling(model), SIDE, SIDE) >= 1
    one = backend.synthesize(sampling(model), [crop(1)])[0]
    assert one.pixels.shape == (SIDE, SIDE, 3) and one.pixels.dtype == np.float32
    assert one.notes["pipeline"] == "StableDiffusion3InpaintPipeline"
    assert one.notes["sampler"] == "FlowMatchEulerDiscreteScheduler"


def test_its_results_do_not_depend_on_the_batch_and_follow_the_seed(backend: Any, model: Path) -> None:
    crops = [crop(seed) for seed in range(3)]
    together = [result.pixels for result in backend.synthesize(sampling(model), crops)]
    alone = [backend.synthesize(sampling(model), [one])[0].pixels for one in reversed(crops)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))
    other = backend.synthesize(sampling(model), [dataclasses.replace(crops[0], seed=9)])[0].pixels
    assert not np.array_equal(other, together[0])


def test_prompt_guidance_and_mask_reach_it(backend: Any, model: Path) -> None:
    plain = backend.synthesize(sampling(model), [crop(1)])[0].pixels
    for change in ({"prompt": "green grass"}, {"guidance_scale": 2.0}, {"negative_prompt": "sea"}, {"dilate_cells": 2}):
        assert not np.array_equal(backend.synthesize(sampling(model, **change), [crop(1)])[0].pixels, plain), change


def test_watch_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = registry.backend_class("diffusion", "diffusers")
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(kind, "watch", staticmethod(lambda done, total: told.append((done, total))))
    kind().synthesize(sampling(model), [crop(1)])
    assert told == [(number, told[0][1]) for number in range(1, told[0][1] + 1)]


@pytest.mark.parametrize(
    "option",
    [
        {"scheduler": "ddim:2,ddpm:2"},
        {"scheduler": "ddpm"},
        {"profile": "profile.json"},
        {"consistency": "map.safetensors"},
        {"latents": "mean"},
    ],
)
def test_what_it_does_not_take_is_refused(backend: Any, model: Path, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not take") as said:
        backend.synthesize(sampling(model, **option), [crop(1)])
    assert said.value.hint


def test_its_latents_cannot_be_looked_at(backend: Any, model: Path) -> None:
    for look in (
        lambda: backend.facts(sampling(model)),
        lambda: backend.encode(sampling(model), crop(1).pixels),
        lambda: backend.embed(sampling(model), ["a"]),
    ):
        with pytest.raises(UsageError, match="runs as a whole"):
            look()


def test_a_family_that_fills_no_holes_is_refused(backend: Any, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "other")
    index = tmp_path / "other" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "AuraFlowPipeline"}))
    with pytest.raises(DataError, match="no pipeline that fills holes"):
        backend.synthesize(sampling(tmp_path / "other"), [crop(1)])


def test_memory_is_saved_where_it_runs_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = registry.backend_class("diffusion", "diffusers")()
    calm = backend.synthesize(sampling(model), [crop(1)])[0].pixels
    running = backend._loaded
    call = type(running.pipeline).__call__

    @functools.wraps(call)
    def scarce(pipeline: Any, *arguments: Any, **options: Any) -> Any:
        if not running.economy:
            raise MemoryError
        return call(pipeline, *arguments, **options)

    monkeypatch.setattr(type(running.pipeline), "__call__", scarce)
    saved = backend.synthesize(sampling(model), [crop(1)])[0].pixels
    assert running.economy == ["tiled"]
    assert np.abs(saved - calm).max() < 1e-4
