"""Diffusion by diffusers' classes: equal to its own pipelines, whatever is in the batch, and plain about failures."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from imgedit import registry
from imgedit.backends.diffusion import _pipeline
from imgedit.errors import DataError, OutOfMemory, Unavailable, UsageError
from imgedit.jobs import Crop, Sampling, Synthesized

pytest.importorskip("torch")
pytest.importorskip("diffusers")

SIDE, GRID = 64, 8
KINDS = ("sd-inpaint", "sd", "sd2", "xl-inpaint", "xl")
SAMPLERS = (
    *("ddim", "ddpm", "pndm", "lms", "euler", "euler-karras", "euler-ancestral", "heun", "dpm-solver"),
    *("dpm-solver-karras", "dpm-solver-sde", "dpm-solver-sde-karras", "unipc", "unipc-exponential", "lcm"),
)
PROMPT = "an old brick wall"


@pytest.fixture(scope="module")
def backend() -> Any:
    return registry.backend_class("diffusion", "diffusers")()


def crop(seed: int, *, aligned: bool = True, dtype: type = np.uint8) -> Crop:
    """Return a crop of smooth noise with a mask of whole cells, or of a thin line that is none."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, np.iinfo(dtype).max, (SIDE // 16, SIDE // 16, 3))
    pixels = coarse.repeat(16, axis=0).repeat(16, axis=1).astype(dtype)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if aligned:
        top, left = rng.integers(0, 4, 2) * GRID
        mask[top : top + 4 * GRID, left : left + 3 * GRID] = 255
    else:
        mask[11:13, 5:59] = 255
    return Crop(pixels, mask, 100 + seed)


def sampling(folder: Path, kind: str, **options: Any) -> Sampling:
    return Sampling(str(folder / kind), **{"prompt": PROMPT, "steps": 6, "device": "cpu", **options})


@cache
def pipeline(folder: Path, kind: str) -> Any:
    import diffusers

    name = "StableDiffusionXLInpaintPipeline" if kind.startswith("xl") else "StableDiffusionInpaintPipeline"
    found = getattr(diffusers, name).from_pretrained(folder / kind, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found, dict(found.scheduler.config)


def theirs(folder: Path, kind: str, given: Sampling, crops: Sequence[Crop]) -> np.ndarray:
    """Return what diffusers' own pipeline paints, with one generator for each crop."""
    import diffusers
    import torch
    from PIL import Image

    pipe, config = pipeline(folder, kind)
    name, own = table()[given.scheduler]
    pipe.scheduler = getattr(diffusers, name).from_config(config, **own)
    return np.asarray(
        pipe(
            prompt=[given.prompt] * len(crops),
            negative_prompt=[given.negative_prompt] * len(crops) if given.negative_prompt else None,
            image=[Image.fromarray(one.pixels) for one in crops],
            mask_image=[Image.fromarray(one.mask) for one in crops],
            generator=[torch.Generator().manual_seed(one.seed) for one in crops],
            strength=given.strength,
            guidance_scale=given.guidance_scale,
            num_inference_steps=given.steps,
            output_type="np",
        ).images
    )


def table() -> dict[str, tuple[str, dict[str, Any]]]:
    from imgedit.backends.diffusion._schedule import TABLE

    return TABLE


def stacked(results: Sequence[Synthesized]) -> np.ndarray:
    return np.stack([result.pixels for result in results])


def check(backend: Any, folder: Path, given: Sampling, crops: Sequence[Crop]) -> None:
    ours = stacked(backend.synthesize(given, crops))
    assert ours.dtype == np.float32
    other = theirs(folder, Path(given.model).name, given, crops)
    assert 0.05 < other.std() < 0.45, "the reference must show something"
    assert np.abs(ours - other).max() < 1e-4


# diffusers' own lms reckons with steps that were not run; test_schedule holds ours to a known answer there
@pytest.mark.parametrize(
    ("kind", "scheduler", "strength"),
    [("sd-inpaint", name, 1.0) for name in SAMPLERS] + [("sd", name, 0.6) for name in SAMPLERS if name != "lms"],
)
def test_each_sampler_equals_diffusers(
    backend: Any, small_models: Path, kind: str, scheduler: str, strength: float
) -> None:
    given = sampling(small_models, kind, scheduler=scheduler, strength=strength)
    check(backend, small_models, given, [crop(1)])


@pytest.mark.parametrize(
    ("strength", "guidance", "batch"), [(1.0, 7.5, 2), (0.6, 7.5, 3), (0.6, 1.0, 1), (1.0, 1.0, 2)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_equals_diffusers(
    backend: Any, small_models: Path, kind: str, strength: float, guidance: float, batch: int
) -> None:
    given = sampling(small_models, kind, scheduler="euler-ancestral", strength=strength, guidance_scale=guidance)
    check(backend, small_models, given, [crop(seed) for seed in range(batch)])


def test_a_vae_made_for_inpainting_is_shown_the_outside(
    backend: Any, small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from diffusers import AsymmetricAutoencoderKL

    from imgedit.backends.diffusion import _denoise

    levels = 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        vae = AsymmetricAutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            down_block_out_channels=(8, 8, 8, 8),
            up_block_types=("UpDecoderBlock2D",) * levels,
            up_block_out_channels=(8, 8, 16, 16),  # such decoders are the larger half
            norm_num_groups=4,
            sample_size=64,
        )
    shutil.copytree(small_models / "sd-inpaint", tmp_path / "asymmetric")
    shutil.rmtree(tmp_path / "asymmetric" / "vae")
    vae.save_pretrained(tmp_path / "asymmetric" / "vae")
    index = tmp_path / "asymmetric" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"vae": ["diffusers", "AsymmetricAutoencoderKL"]}))
    given, crops = sampling(tmp_path, "asymmetric"), [crop(1), crop(2, aligned=False)]
    assert backend.geometry(given).grid == GRID
    check(backend, tmp_path, given, crops)
    ours = stacked(backend.synthesize(given, crops))
    monkeypatch.setattr(_denoise, "_outside", lambda *_: {})
    assert np.abs(ours - stacked(backend.synthesize(given, crops))).max() > 1e-2


def test_a_tokenizer_without_a_configuration_reads_the_same(backend: Any, small_models: Path, tmp_path: Path) -> None:
    shutil.copytree(small_models / "sd", tmp_path / "bare")
    for file in (tmp_path / "bare" / "tokenizer").iterdir():
        if file.name not in ("vocab.json", "merges.txt"):
            file.unlink()
    long = PROMPT + " of stone" * 60
    plain, bare = (
        backend.embed(sampling(folder, kind), [long])[0] for folder, kind in ((small_models, "sd"), (tmp_path, "bare"))
    )
    assert np.array_equal(plain, bare)


@pytest.mark.parametrize("kind", ["sd-inpaint", "xl"])
def test_negative_prompts_equal_diffusers(backend: Any, small_models: Path, kind: str) -> None:
    given = sampling(small_models, kind, negative_prompt="green grass")
    check(backend, small_models, given, [crop(3)])
    plain = stacked(backend.synthesize(sampling(small_models, kind), [crop(3)]))
    assert np.abs(stacked(backend.synthesize(given, [crop(3)])) - plain).max() > 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_zero_terminal_signal_equals_diffusers(backend: Any, small_models: Path, tmp_path: Path, sampler: str) -> None:
    shutil.copytree(small_models / "sd2", tmp_path / "sd2")
    change(
        tmp_path / "sd2" / "scheduler" / "scheduler_config.json",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    given = sampling(tmp_path, "sd2", scheduler=sampler)
    check(backend, tmp_path, given, [crop(5)])


def test_a_unet_distilled_to_take_the_guidance_scale_equals_diffusers(
    backend: Any, small_models: Path, tmp_path: Path
) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    shutil.copytree(small_models / "sd", tmp_path / "distilled")
    config = json.loads((tmp_path / "distilled" / "unet" / "config.json").read_text())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        unet = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 16})
    unet.save_pretrained(tmp_path / "distilled" / "unet")
    given = sampling(tmp_path, "distilled", scheduler="lcm")
    check(backend, tmp_path, given, [crop(5), crop(6)])
    other = dataclasses.replace(given, guidance_scale=2.0)
    assert (
        np.abs(stacked(backend.synthesize(other, [crop(5)])) - stacked(backend.synthesize(given, [crop(5)]))).max()
        > 1e-4
    )


def test_latents_with_a_mean_of_their_own_are_put_back_before_decoding(
    backend: Any, small_models: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_models / "xl", tmp_path / "centred")
    change(tmp_path / "centred" / "vae" / "config.json", latents_mean=[0.1, -0.2, 0.3, 0], latents_std=[2, 3, 1, 0.5])
    nothing = dataclasses.replace(crop(1), mask=np.zeros((SIDE, SIDE), np.uint8))
    plain, centred = (
        backend.synthesize(sampling(folder, kind, latents="mean"), [nothing])[0].pixels
        for folder, kind in ((small_models, "xl"), (tmp_path, "centred"))
    )
    assert np.abs(plain - centred).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_gives_the_same_as_its_folder(backend: Any, small_models: Path, kind: str) -> None:
    folder = sampling(small_models, kind)
    file = dataclasses.replace(folder, model=folder.model + ".safetensors")
    assert backend.geometry(folder) == backend.geometry(file)
    assert (
        np.abs(stacked(backend.synthesize(folder, [crop(2)])) - stacked(backend.synthesize(file, [crop(2)]))).max()
        < 1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_does_not_depend_on_the_batch(backend: Any, small_models: Path, kind: str) -> None:
    given = sampling(small_models, kind, scheduler="ddpm", strength=0.7)
    crops = [crop(seed, aligned=seed % 2 == 0) for seed in range(5)]
    together = stacked(backend.synthesize(given, crops))
    alone = stacked([backend.synthesize(given, [one])[0] for one in reversed(crops)][::-1])
    assert np.abs(together - alone).max() < 1e-4
    assert np.array_equal(together, stacked(backend.synthesize(given, crops)))


def test_a_thin_stroke_is_masked_where_diffusers_may_lose_it(backend: Any, small_models: Path) -> None:
    thin = crop(1, aligned=False)
    whole = np.zeros_like(thin.mask)
    whole[8:16, 0:64] = 255
    given = sampling(small_models, "sd")
    # under four channels the mask matters by its cells alone
    same = backend.synthesize(given, [thin])[0].pixels
    assert np.array_equal(same, backend.synthesize(given, [dataclasses.replace(thin, mask=whole)])[0].pixels)
    grown = backend.synthesize(dataclasses.replace(given, dilate_cells=1), [thin])[0].pixels
    assert np.abs(grown - same).max() > 1e-3


def test_outside_the_mask_four_channels_keep_the_picture_that_the_vae_sees(backend: Any, small_models: Path) -> None:
    given = sampling(small_models, "sd", latents="mean")
    one = dataclasses.replace(crop(1), mask=np.zeros((SIDE, SIDE), np.uint8))
    kept = backend.synthesize(given, [one])[0].pixels
    again = backend.synthesize(dataclasses.replace(given, prompt="the sea", scheduler="unipc"), [one])[0].pixels
    assert np.abs(kept - again).max() < 1e-5


def test_mean_latents_draw_nothing_for_the_encoder(backend: Any, small_models: Path) -> None:
    sample, mean = (
        backend.synthesize(sampling(small_models, "sd-inpaint", latents=latents), [crop(1)])[0].pixels
        for latents in ("sample", "mean")
    )
    assert np.abs(sample - mean).max() > 1e-4


def test_sixteen_bits_are_seen(backend: Any, small_models: Path) -> None:
    given = sampling(small_models, "sd", latents="mean")
    eight = crop(1)
    wide = dataclasses.replace(eight, pixels=eight.pixels.astype(np.uint16) * 257)
    a, b = (backend.synthesize(given, [one])[0].pixels for one in (eight, wide))
    assert np.abs(a - b).max() < 1e-5


def test_prompts_and_encodings_are_computed_once(
    backend: Any, small_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = sampling(small_models, "sd-inpaint", prompt="green grass", negative_prompt="stone")
    backend.synthesize(dataclasses.replace(given, prompt="other"), [crop(30)])
    model = backend._loaded
    calls = {"text": 0, "vae": 0}
    text, encode = model.encoders[0][0].forward, model.vae.encode

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(model.encoders[0][0], "forward", counted("text", text))
    monkeypatch.setattr(model.vae, "encode", counted("vae", encode))
    twin = dataclasses.replace(crop(31), seed=7)
    backend.synthesize(given, [crop(31), crop(32), twin])
    # the negative prompt is known from before; the twin is the crop before it: two, each whole and blanked
    assert calls == {"text": 1, "vae": 4}
    backend.synthesize(given, [crop(31), crop(32), twin])
    assert calls["vae"] == 4


def test_one_model_is_held_and_loaded_once(backend: Any, small_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgedit.backends.diffusion import _load

    loads: list[str] = []
    load = _load.load

    def counted(layout: Any, *rest: Any) -> Any:
        loads.append(layout.located.path.name)
        return load(layout, *rest)

    monkeypatch.setattr(_load, "load", counted)
    for kind in ("sd", "sd", "sd2", "sd2"):
        for seed in range(2):
            backend.synthesize(sampling(small_models, kind, steps=2 + seed), [crop(seed)])
    assert loads == ["sd", "sd2"] or loads == ["sd2"]  # sd may be held from another test


def test_loading_imports_no_pipeline(small_models: Path) -> None:
    from conftest import OPERATORS, ROOT

    program = (
        "import sys, numpy as np\n"
        "from imgedit import registry\n"
        "from imgedit.jobs import Crop, Sampling\n"
        "backend = registry.backend('diffusion', 'diffusers')\n"
        "crop = Crop(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8), 0)\n"
        f"backend.synthesize(Sampling({str(small_models / 'sd')!r}, steps=2, device='cpu'), [crop])\n"
        "print([name for name in sys.modules if name.startswith('diffusers.pipelines.stable')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{OPERATORS}", "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert done.stderr == ""


def test_watch_is_told_of_each_evaluation(small_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = registry.backend_class("diffusion", "diffusers")
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(kind, "watch", staticmethod(lambda done, total: told.append((done, total))))
    kind().synthesize(sampling(small_models, "sd", scheduler="heun", steps=3), [crop(1)])
    assert told == [(number, 5) for number in range(1, 6)]


# --- other families ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, ``other``, whose VAE is none that the loop of ours knows."""
    import torch
    from diffusers import AutoencoderTiny

    folder = tmp_path_factory.mktemp("families")
    shutil.copytree(small_models / "sd-inpaint", folder / "other")
    shutil.rmtree(folder / "other" / "vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        blocks: dict[str, Any] = {f"{part}_block_out_channels": (8,) * 4 for part in ("encoder", "decoder")}
        blocks |= {f"num_{part}_blocks": (1,) * 4 for part in ("encoder", "decoder")}
        AutoencoderTiny(**blocks).save_pretrained(folder / "other" / "vae")
    change(folder / "other" / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    return folder


@pytest.mark.parametrize(("scheduler", "strength"), [("ddim", 1.0), ("euler", 0.6)])
def test_another_family_runs_by_the_pipeline_of_diffusers(
    backend: Any, other: Path, scheduler: str, strength: float
) -> None:
    given = sampling(other, "other", scheduler=scheduler, strength=strength, negative_prompt="green grass")
    crops = [crop(1), crop(2)]
    ours = backend.synthesize(given, crops)
    wanted = np.concatenate([theirs(other, "other", given, [one]) for one in crops])
    assert wanted.std() > 0.02 and np.abs(stacked(ours) - wanted).max() < 1e-4
    notes = ours[0].notes
    assert notes["pipeline"] == "StableDiffusionInpaintPipeline" and notes["sampler"] == table()[scheduler][0]


@pytest.mark.parametrize(("scale", "negative"), [(3.0, {"negative_tokens_cut": 4}), (1.0, {})])
def test_another_family_says_what_it_does_not_read(
    backend: Any, other: Path, scale: float, negative: dict[str, int]
) -> None:
    given = sampling(other, "other", prompt="!" * 78, negative_prompt="!" * 79, guidance_scale=scale)
    notes = backend.synthesize(given, [crop(1)])[0].notes
    assert {name: count for name, count in notes.items() if "tokens" in name} == {"tokens_cut": 3, **negative}


def test_an_encoder_that_reads_on_makes_up_for_one_that_stops() -> None:
    @dataclasses.dataclass
    class Words:
        model_max_length: int

        def __call__(self, text: str) -> SimpleNamespace:
            return SimpleNamespace(input_ids=text.split())

    short = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=77))
    endless = SimpleNamespace(config=SimpleNamespace())
    both = SimpleNamespace(tokenizer=Words(77), text_encoder=short, tokenizer_2=Words(10**30), text_encoder_2=endless)
    alone = SimpleNamespace(tokenizer=Words(77), text_encoder=short)
    takes = {"max_sequence_length": SimpleNamespace(default=512)}

    def cut(parts: SimpleNamespace, count: int) -> int:
        return _pipeline._cut(cast(Any, SimpleNamespace(pipeline=parts)), takes, "a " * count)

    assert [cut(both, count) for count in (70, 500, 515)] == [0, 0, 3]
    assert [cut(alone, count) for count in (70, 80)] == [0, 3]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"scheduler": "ddim:2,ddpm:2"}, "mixed schedulers"),
        ({"profile": "p.json"}, "recentring"),
        ({"consistency": "m.safetensors"}, "translated prompts"),
        ({"latents": "mean"}, "the mean of the latents"),
        ({"scheduler": "lcm"}, "--scheduler lcm"),
        ({"strength": 0.1}, "refuses this"),
    ],
)
def test_what_a_pipeline_of_diffusers_does_not_take_is_said(
    backend: Any, other: Path, option: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        backend.synthesize(sampling(other, "other", **option), [crop(1)])
    with pytest.raises(UsageError, match="runs as a whole"):
        backend.facts(sampling(other, "other", **option))


def test_a_folder_with_a_program_is_not_handed_to_a_pipeline(backend: Any, other: Path) -> None:
    shutil.copytree(other / "other", other / "program")
    (other / "program" / "unet" / "diffusers.py").write_text("raise SystemExit('run')")
    with pytest.raises(DataError, match=r"holds a program, diffusers\.py"):
        backend.synthesize(sampling(other, "program"), [crop(1)])


# --- what it says of a model ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "widths"), [("sd", (32,)), ("sd2", (48,)), ("xl", (32, 40))])
def test_facts_encodings_and_embeddings_fit_each_other(
    backend: Any, small_models: Path, kind: str, widths: tuple[int, ...]
) -> None:
    given = sampling(small_models, kind)
    facts = backend.facts(given)
    assert [encoder["width"] for encoder in facts["encoders"]] == list(widths)
    latents = backend.encode(given, crop(1).pixels)
    assert latents.shape == (facts["channels"], SIDE // facts["grid"], SIDE // facts["grid"])
    embedded = backend.embed(given, ["a", "b", "a"])
    for values, encoder in zip(embedded, facts["encoders"], strict=True):
        assert values.shape == (3, encoder["tokens"], encoder["width"])
        assert np.array_equal(values[0], values[2]) and not np.array_equal(values[0], values[1])


def test_the_record_names_the_model_and_its_files(backend: Any, small_models: Path) -> None:
    record = backend.model(sampling(small_models, "sd"))
    assert record["id"] == "sd"
    assert sum(value.startswith("sha256:") for value in record.values()) == 3


def test_notes_say_how_it_was_made(backend: Any, small_models: Path) -> None:
    given = sampling(small_models, "sd", prompt="word " * 100, negative_prompt="!" * 78)
    notes = backend.synthesize(given, [crop(1)])[0].notes
    assert notes["evaluations"] == 6 and notes["batch"] == 1 and notes["dtype"] == "float32"
    # each ! is a token, and so are the beginning and the end
    assert notes["tokens_cut"] > 0 and notes["negative_tokens_cut"] == 3
    json.dumps(notes)
    notes = backend.synthesize(dataclasses.replace(given, prompt="!" * 75, negative_prompt=""), [crop(1)])[0].notes
    assert "tokens_cut" not in notes and "negative_tokens_cut" not in notes
    # without guidance nothing reads the negative prompt
    notes = backend.synthesize(dataclasses.replace(given, guidance_scale=1.0), [crop(1)])[0].notes
    assert notes["tokens_cut"] > 0 and "negative_tokens_cut" not in notes


# --- failures ---------------------------------------------------------------------------------------------


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"scheduler": "dimm"}, UsageError),
        ({"scheduler": "ddim:2,dimm:3"}, UsageError),
        ({"strength": 0.1}, UsageError),
        ({"device": "toaster"}, UsageError),
        ({"device": "cuda:77"}, Unavailable),
        ({"dtype": "float12"}, UsageError),
        ({"dtype": "float16"}, UsageError),
        ({"memory_target_gb": 0.01}, OutOfMemory),
    ],
)
def test_what_cannot_be_done_is_said(backend: Any, small_models: Path, option: dict[str, Any], error: type) -> None:
    with pytest.raises(error) as said:
        backend.synthesize(sampling(small_models, "sd", **option), [crop(1)])
    assert said.value.hint


def test_a_damaged_model_is_refused(small_models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    backend = registry.backend_class("diffusion", "diffusers")()
    shutil.copytree(small_models / "sd", tmp_path / "lacking")
    weights = tmp_path / "lacking" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights)
    with pytest.raises(DataError, match=r"lack 1 tensors, such as conv_in\.weight"):
        backend.synthesize(sampling(tmp_path, "lacking"), [crop(1)])

    shutil.copytree(small_models / "sd", tmp_path / "short")
    weights = tmp_path / "short" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(DataError, match="cut short"):
        backend.synthesize(sampling(tmp_path, "short"), [crop(1)])

    shutil.copytree(small_models / "sd", tmp_path / "misfit")
    change(tmp_path / "misfit" / "unet" / "config.json", cross_attention_dim=64)
    with pytest.raises(DataError, match="could not be loaded"):
        backend.synthesize(sampling(tmp_path, "misfit"), [crop(1)])


def test_a_single_file_lacks_tensors(small_models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(small_models / "sd", tmp_path / "part")
    tensors = load_file(small_models / "sd.safetensors")
    save_file(
        {key: value for key, value in tensors.items() if ".decoder.mid." not in key}, tmp_path / "part.safetensors"
    )
    backend = registry.backend_class("diffusion", "diffusers")()
    with pytest.raises(DataError, match="some of its tensors are missing"):
        backend.synthesize(sampling(tmp_path, "part.safetensors"), [crop(1)])


def test_a_single_file_without_configuration_says_what_is_needed(
    small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(small_models / "sd-inpaint.safetensors", tmp_path / "lone.safetensors")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match=r"configuration of lone\.safetensors") as said:
        registry.backend_class("diffusion", "diffusers")().geometry(sampling(tmp_path, "lone.safetensors"))
    assert "stable-diffusion-inpainting" in said.value.hint


def test_numbers_that_run_over_are_an_error(backend: Any, small_models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(small_models / "sd", tmp_path / "huge")
    weights = tmp_path / "huge" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"] *= float("nan")
    save_file(tensors, weights)
    with pytest.raises(DataError, match="no number"):
        backend.synthesize(sampling(tmp_path, "huge", dtype="bfloat16"), [crop(1)])


def test_bfloat16_decodes_what_float32_does(backend: Any, small_models: Path) -> None:
    # all is kept: the noise, drawn in the dtype of the model as diffusers does, has no part in what is seen
    nothing = dataclasses.replace(crop(1), mask=np.zeros((SIDE, SIDE), np.uint8))
    wide, narrow = (
        backend.synthesize(sampling(small_models, "xl", dtype=dtype, latents="mean"), [nothing])[0]
        for dtype in ("float32", "bfloat16")
    )
    assert (wide.notes["dtype"], narrow.notes["dtype"]) == ("float32", "bfloat16")
    off = np.abs(narrow.pixels - wide.pixels)
    assert 0 < off.max() < 0.1 and off.mean() < 0.01


@pytest.mark.parametrize("economy", [["tiled"], ["tiled", "sliced"], ["tiled", "sliced", "parked"]])
def test_less_memory_gives_the_same(small_models: Path, economy: list[str]) -> None:
    given = sampling(small_models, "xl-inpaint")
    backend = registry.backend_class("diffusion", "diffusers")()
    plain = backend.synthesize(given, [crop(1)])[0]
    for measure in economy:
        backend._loaded.save(measure)
    less = backend.synthesize(dataclasses.replace(given, prompt=PROMPT), [crop(1)])[0]
    assert less.notes["economy"] == economy and "economy" not in plain.notes
    assert np.abs(less.pixels - plain.pixels).max() < 1e-4


def test_lack_of_memory_halves_the_batch_then_saves_then_is_said(
    small_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgedit.backends.diffusion import _denoise

    backend = registry.backend_class("diffusion", "diffusers")()
    given = sampling(small_models, "sd-inpaint")
    crops = [crop(seed) for seed in range(5)]
    calm = stacked(backend.synthesize(given, crops))
    denoised = _denoise._denoised
    sizes: list[int] = []

    def scarce(model: Any, asked: Any, schedule: Any, state: Any, *rest: Any) -> Any:
        sizes.append(len(state.latents))
        if len(state.latents) > room or len(model.economy) < measures:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return denoised(model, asked, schedule, state, *rest)

    monkeypatch.setattr(_denoise, "_denoised", scarce)
    room, measures = 2, 0
    assert np.abs(stacked(backend.synthesize(given, crops)) - calm).max() < 1e-4
    assert sizes == [5, 2, 3, 1, 2]
    room, measures = 1, 2
    assert np.abs(stacked(backend.synthesize(given, crops[:2])) - calm[:2]).max() < 1e-4
    room = 0
    with pytest.raises(OutOfMemory, match="64 × 64"):
        backend.synthesize(given, crops[:2])


def test_other_errors_are_not_taken_for_lack_of_memory(
    backend: Any, small_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgedit.backends.diffusion import _denoise

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(_denoise, "_denoised", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        backend.synthesize(sampling(small_models, "sd"), [crop(1)])


def test_every_sampler_is_checked_here_and_offered() -> None:
    from imgedit.stages.inpaint import SCHEDULERS

    assert set(SAMPLERS) == set(table()) == set(SCHEDULERS)
