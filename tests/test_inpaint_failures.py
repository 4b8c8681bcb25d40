"""What goes wrong with a model: one error, one hint, the documented exit code, and nothing written."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import hub as fake
import numpy as np
import pytest
from conftest import OPERATORS, ROOT, picture, with_mask
from nets import real

from imgedit import codec
from imgedit.backends import memory
from imgedit.backends.diffusion import _layout, _memory
from imgedit.errors import OutOfMemory
from imgedit.stages.inpaint import SCHEDULERS

Run = Callable[..., CompletedProcess[Any]]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    codec.write_file(with_mask(picture("rgb8", 64, 64)), tmp_path / "masked.png")
    return tmp_path / "masked.png"


def fails(result: CompletedProcess[Any], code: int, error: str, hint: str) -> None:
    """Assert that a command said *error* and *hint* once, ended with *code*, and wrote nothing."""
    lines = result.stderr.decode().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    hints = [line for line in lines if line.startswith("hint: ")]
    assert len(errors) == len(hints) == 1 and len(lines) == 2, result.stderr.decode()
    assert error in errors[0] and hint in hints[0], result.stderr.decode()
    assert result.returncode == code and not result.stdout


# --- models that are not what is needed: told before torch is loaded ----------------------------------------


def _truncated(model: Path) -> None:
    (model / UNET).write_bytes((model / UNET).read_bytes()[:-1000])


def _corrupt(model: Path) -> None:
    data = bytearray((model / UNET).read_bytes())
    data[8:40] = b"#" * 32
    (model / UNET).write_bytes(data)


def _pickled(model: Path) -> None:
    (model / UNET).rename(model / "unet" / "diffusion_pytorch_model.bin")


def _gone(model: Path) -> None:
    (model / UNET).unlink()


def _no_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def _bad_index(model: Path) -> None:
    (model / "model_index.json").write_text('{"unet": ')


def _upscaler(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionUpscalePipeline"}))


def _seven_channels(model: Path) -> None:
    config = json.loads((model / "unet/config.json").read_text())
    (model / "unet/config.json").write_text(json.dumps({**config, "in_channels": 7}))


def _vae_alone(model: Path) -> None:
    shutil.copytree(model / "vae", model.with_name("kept"))
    shutil.rmtree(model)
    model.with_name("kept").rename(model)


def _config(part: str, **values: Any) -> Callable[[Path], None]:
    """Return what sets *values* in the configuration *part*; None leaves a key out."""

    def spoil(model: Path) -> None:
        config = {**json.loads((model / part).read_text()), **values}
        (model / part).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    spoil.__name__ = f"{part}, {values}"
    return spoil


SCHEDULER = "scheduler/scheduler_config.json"
FOLDERS = [
    (_config("model_index.json", text_encoder=5), 65, "configuration of model is damaged", "imgedit models pull"),
    (_config("vae/config.json", block_out_channels=None), 65, "configuration of model", "imgedit models pull"),
    (_config("vae/config.json", latent_channels=None), 65, "latent_channels", "imgedit models pull"),
    (_config("unet/config.json", sample_size="abc"), 65, "configuration of model", "imgedit models pull"),
    (_config("unet/config.json", sample_size=10**9), 65, "8000000000 pixels", "imgedit models pull"),
    (_config("text_encoder/config.json", hidden_size=None), 65, "hidden_size", "imgedit models pull"),
    (_config(SCHEDULER, prediction_type="x"), 65, "prediction_type is 'x'", "imgedit models pull"),
    (_config(SCHEDULER, beta_schedule="x"), 65, "cannot be set up", "imgedit models verify"),
    (_truncated, 65, "cut short", "imgedit models pull"),
    (_corrupt, 65, "damaged", "imgedit models pull"),
    (_pickled, 65, "is a pickle", "imgedit models list"),
    (_gone, 65, "unet has no configuration or no weights", "imgedit models pull"),
    (_no_index, 65, "no model_index.json", "Hub id"),
    (_bad_index, 65, "model_index.json is damaged", "imgedit models pull"),
    (_upscaler, 65, "is for upscale, not for inpaint", "imgedit upscale"),
    (_seven_channels, 65, "is for upscale, not for inpaint", "imgedit upscale"),
    (_vae_alone, 65, "is a VAE alone, not for inpaint", "imgedit models list"),
]


@pytest.mark.parametrize(("spoil", "code", "error", "hint"), FOLDERS, ids=[row[0].__name__ for row in FOLDERS])
def test_a_spoilt_folder(
    spoil: Callable[[Path], None], code: int, error: str, hint: str, run: Run, masked: Path, small_models: Path
) -> None:
    model = masked.with_name("model")
    shutil.copytree(small_models / "sd-inpaint", model)
    spoil(model)
    fails(run("inpaint", masked, "--prompt", "x", "--model", "model", "-o", "out.png"), code, error, hint)
    assert not masked.with_name("out.png").exists()


FILES = [
    ({"model.ckpt": b"PK\x03\x04"}, 65, "is a pickle", ".safetensors"),
    ({"model.safetensors": b"no weights"}, 65, "is not a safetensors file", ".safetensors"),
    ({"model.png": b"\x89PNG\r\n\x1a\n" + bytes(100)}, 65, "is not a safetensors file", ".safetensors"),
    (
        {"4x.safetensors": fake.safetensors({"body.0.rdb1.conv1.weight": (32, 64, 3, 3)})},
        65,
        "is for upscale, not for inpaint",
        "imgedit upscale",
    ),
    (
        {"lama.safetensors": fake.safetensors({"model.model.1.ffc.convl2l.weight": (64, 4, 7, 7)})},
        65,
        "is for fill, not for inpaint",
        "imgedit erase --backend spandrel:lama.safetensors",
    ),
    (
        {"x.safetensors": fake.safetensors({"lora_unet_down.lora_up.weight": (4, 4)})},
        65,
        "is a LoRA",
        "imgedit models list",
    ),
    ({"x.safetensors": fake.safetensors({"something": (4, 4)})}, 65, "is nothing that is known", "imgedit models list"),
]


@pytest.mark.parametrize(("files", "code", "error", "hint"), FILES, ids=[next(iter(row[0])) + row[2] for row in FILES])
def test_a_file_that_is_no_model_for_it(
    files: dict[str, bytes], code: int, error: str, hint: str, run: Run, masked: Path
) -> None:
    for name, data in files.items():
        masked.with_name(name).write_bytes(data)
        fails(run("inpaint", masked, "--prompt", "x", "--model", name, "-o", "out.png"), code, error, hint)


OPTIONS = [
    (["--model", "owner/name", "--offline"], 69, "is not here", "imgedit models pull owner/name"),
    (["--model", "folder/that/is/not/here"], 69, "there is no model", "check the name"),
    (["--model", "word"], 2, "neither a file, a folder nor a Hub id", ""),
    (["--model", "~nobody-of-this-name/model"], 69, "there is no model", "check the name"),
    (["--negative-prompt", "\udcff"], 2, "is not text", "--negative-prompt"),
    (["--scheduler", "dimm"], 2, "no scheduler 'dimm'", "ddim"),
    (["--scheduler", "ddim,ddpm:3"], 2, "number of steps", ""),
    (["--device", "tpu-9"], 2, "is no device", "--device auto"),
    (["--device", "cuda:77"], 69, "not available here", "--device auto"),
    (["--memory-target-gb", "0.1"], 75, "--memory-target-gb 0.1 leaves nothing", "imgedit erase"),
]


@pytest.mark.parametrize(("options", "code", "error", "hint"), OPTIONS, ids=[ascii(row[0]) for row in OPTIONS])
def test_an_option_that_does_not_work_here(
    options: list[str], code: int, error: str, hint: str, run: Run, masked: Path, small_models: Path
) -> None:
    model = [] if "--model" in options else ["--model", small_models / "sd-inpaint"]
    fails(run("inpaint", masked, "--prompt", "x", *model, *options, "-o", "out.png"), code, error, hint)
    assert not masked.with_name("out.png").exists()


def test_the_help_lists_the_samplers_and_their_error_does_not_repeat_it(run: Run, masked: Path) -> None:
    shown = "".join(run("inpaint", "--help").stdout.decode().split())
    assert ",".join(SCHEDULERS) in shown
    for wrong in ("dimm", "zzzzz", "ddim:0"):
        said = run("inpaint", masked, "--scheduler", wrong).stderr.decode()
        assert said.count("lcm") <= 1 and "hint: --scheduler ddim, or" in said


def test_everything_masked_and_nothing_asked_for(run: Run, masked: Path, small_models: Path) -> None:
    frame = picture("rgb8", 64, 64)
    codec.write_file(frame.replace(mask=np.full((64, 64), 255, np.uint8)), masked)
    result = run("inpaint", masked, "--model", small_models / "sd-inpaint", "-o", "out.png")
    fails(result, 2, "no prompt says what is to be there", "--prompt 'a meadow'")


def test_a_file_with_a_part_of_a_model(run: Run, masked: Path, small_models: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(small_models / "sd", masked.with_name("part"))
    tensors = load_file(small_models / "sd.safetensors")
    unet = {key: value for key, value in tensors.items() if key.startswith("model.")}
    save_file(unet, masked.with_name("part.safetensors"))
    result = run("inpaint", masked, "--prompt", "x", "--model", "part.safetensors", "-o", "out.png")
    fails(result, 65, "part.safetensors holds no weights of vae_encoder", "copy the file anew")


def test_weights_of_another_model(run: Run, masked: Path, small_models: Path) -> None:
    model = masked.with_name("model")
    shutil.copytree(small_models / "sd-inpaint", model)
    shutil.copy(small_models / "sd2" / UNET, model / UNET)
    fails(
        run("inpaint", masked, "--prompt", "x", "--model", "model", "-o", "out.png"),
        65,
        "could not be loaded",
        "imgedit models pull",
    )


# --- packages that are not there --------------------------------------------------------------------------


def test_packages_that_are_not_installed(run: Run, masked: Path, small_models: Path) -> None:
    hidden = masked.with_name("hidden")
    hidden.mkdir()
    names = ("torch", "diffusers", "transformers", "safetensors", "spandrel", "accelerate", "huggingface_hub")
    (hidden / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n")
    env = {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": ""}
    install = "pip install 'imgedit[models]'"
    inpaint = ["inpaint", masked, "--prompt", "x", "--model", small_models / "sd-inpaint", "-o", "out.png"]
    fails(run(*inpaint, env=env), 69, "needs torch, diffusers, transformers", install)
    fails(run("erase", masked, "--backend", "spandrel:x.safetensors", "-o", "out.png", env=env), 69, "torch", install)
    fails(run("models", "pull", "owner/name", env=env), 69, "huggingface_hub is not installed", install)
    for arguments in (["models", "list"], ["models", "verify"], ["models", "path", small_models / "sd"], ["backends"]):
        result = run(*arguments, env=env)
        assert result.returncode == 0, result.stderr.decode()
    assert "missing torch" in run("backends", env=env).stdout.decode()


def test_packages_that_are_broken(run: Run, masked: Path, small_models: Path) -> None:
    poison = masked.with_name("poison")
    poison.mkdir()
    shutil.copy(ROOT / "tests" / "poison" / "torch.py", poison)
    env = {"PYTHONPATH": f"{poison}{os.pathsep}{ROOT}{os.pathsep}{OPERATORS}"}
    inpaint = ["inpaint", masked, "--prompt", "x", "--model", small_models / "sd-inpaint", "-o", "out.png"]
    fails(run(*inpaint, env=env), 69, "torch must not be imported here", "pip install")


# --- memory: planned from the sizes in the headers ----------------------------------------------------------

GB = 10**9
#: values of SD 1.5 for inpainting, and of XL, as counted on the real classes
SD = {"unet": 859_535_364, "vae": 83_653_863, "text_encoder": 123_060_480}
XL = {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}


def planned(
    values: dict[str, int],
    native: int,
    free: float,
    monkeypatch: pytest.MonkeyPatch,
    *,
    device: str = "cuda",
    size: int = 2,
) -> _memory.Plan:
    """Return the plan for a model of that many *values* on a *device* with *free* GB."""
    monkeypatch.setattr(memory, "available", lambda device: int(free * GB))
    monkeypatch.setattr(_memory, "sizes", lambda layout: values)
    configs = {
        "unet": {"block_out_channels": [320, 640, 1280, 1280]},
        "vae": {"block_out_channels": [128, 256, 512, 512], "sample_size": 512},
    }
    layout: Any = SimpleNamespace(
        native=native, grid=8, config=lambda part: configs.get(part, {}), located=SimpleNamespace(name="model")
    )
    return _memory.plan(layout, device, size, size, None)


def test_what_fits_is_run_the_fastest_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """SD 1.5 in half precision: 2.1 GB of weights, 0.1 GB a crop with guidance."""
    plan = planned(SD, 512, 24, monkeypatch)
    assert not (plan.offload or plan.attention_slicing or plan.vae_tiling)
    assert plan.held == 2 * sum(SD.values())
    assert plan.most(512, 512) == _memory.MOST
    assert 2.9 * GB < plan.needs(512, 512) < 3.6 * GB


def test_less_memory_means_fewer_crops_then_offload_then_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for free in np.arange(24, 0, -0.25):
        try:
            plan = planned(XL, 1024, free, monkeypatch)
        except OutOfMemory as error:
            assert error.exit_code == 75 and "may be taken" in error.message
            seen.append((2, 0))
            continue
        assert plan.needs(1024, 1024) <= plan.budget
        # the VAE has its turn after the UNet: one crop at a time, and not beside it
        assert plan.held + plan.beside + plan.most(1024, 1024) * plan.crop(1024, 1024) <= plan.budget
        seen.append((int(plan.offload), plan.most(1024, 1024)))
    ways = [way for way, _ in seen]
    assert ways == sorted(ways) and set(ways) == {0, 1, 2}, "each only where the one before it does not fit"
    assert [most for way, most in seen if way == 0] == sorted((most for way, most in seen if way == 0), reverse=True)


def test_main_memory_has_nothing_to_offload_to(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(SD, 512, 8, monkeypatch, device="cpu", size=4)
    assert not plan.offload and plan.most(512, 512) >= 1
    with pytest.raises(OutOfMemory, match=r"needs about 5\.\d GB on cpu at 512×512") as caught:
        planned(SD, 512, 4, monkeypatch, device="cpu", size=4)
    assert "bfloat16" in caught.value.hint


def test_a_refused_memory_target_is_named_and_the_one_in_the_hint_is_enough(small_models: Path) -> None:
    layout = _layout.read(str(small_models / "sd-inpaint"))
    with pytest.raises(OutOfMemory, match=r"and --memory-target-gb 0\.1 leaves nothing") as caught:
        _memory.plan(layout, "cpu", 4, 4, 0.1)
    enough = re.match(r"--memory-target-gb (\d+\.\d) ", caught.value.hint)
    assert enough is not None, caught.value.hint
    assert float(enough[1]) < 1 + (memory.in_use() + 5e8) / GB
    assert _memory.plan(layout, "cpu", 4, 4, float(enough[1])).budget > 0


def test_larger_crops_go_through_in_smaller_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(SD, 512, 6, monkeypatch)
    assert plan.most(512, 512) > plan.most(1024, 1024) >= 1
    assert plan.crop(1024, 512) == 2 * plan.crop(512, 512)


def test_the_sizes_of_a_folder_are_those_of_its_single_file(small_models: Path) -> None:
    for kind in ("sd-inpaint", "sd2"):
        folder, file = (_layout.read(str(small_models / f"{kind}{ending}")) for ending in ("", ".safetensors"))
        whole = _memory.sizes(folder)
        assert _memory.sizes(file) == whole and whole["unet"] > whole["vae"] > 0


# --- what is told before or beside the work -----------------------------------------------------------------


def test_a_plan_without_its_model_is_refused(run: Run, small_models: Path, tmp_path: Path) -> None:
    steps = "steps:\n  - mask: {rect: [1, 1, 9, 9]}\n  - inpaint: {prompt: x, model: "
    (tmp_path / "p.yaml").write_text(f"{steps}{small_models / 'sd'}}}\n")
    done = run("run", "p.yaml", "--dry-run")
    assert done.returncode == 0 and b"null" not in done.stdout and b"prompt: x" in done.stdout
    upscaler = small_models / "x4-upscaler"
    hint = f"upscale --backend diffusion:{upscaler}"  # as it was typed, with its folder
    fails(run("run", "p.yaml", "--dry-run", "--set", f"inpaint.model={upscaler}"), 65, "is for upscale", hint)
    fails(run("run", "p.yaml", "--dry-run", "--set", "inpaint.model=./absent"), 69, "no model './absent'", "owner/name")
    away = ["run", "p.yaml", "--dry-run", "--set", "inpaint.model=owner/name"]
    fails(run(*away), 69, "the network may not be used", "imgedit models pull owner/name")
    done = run(*away, env={"HF_HUB_OFFLINE": "", "HF_HUB_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0 and b"warning: " in done.stderr and b"would be fetched" in done.stderr


def test_crops_far_above_the_models_size_are_said(run: Run, masked: Path, small_models: Path) -> None:
    inpaint = ["inpaint", masked, "--prompt", "x", "--model", small_models / "sd", "--steps", 1, "-o", "out.png"]
    assert b"IL221" not in run(*inpaint, "--resolution", 96).stderr
    done = run(*inpaint, "--resolution", 128)
    assert done.returncode == 0 and b"IL221" in done.stderr and b"64 px" in done.stderr


def test_a_torchvision_of_another_torch_is_named(run: Run, masked: Path, small_models: Path) -> None:
    import torch

    fake = masked.with_name("fake") / "torchvision"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    (fake.with_name("torchvision-0.1.dist-info")).mkdir()
    (fake.with_name("torchvision-0.1.dist-info") / "METADATA").write_text("Name: torchvision\nVersion: 0.1\n")
    env = {"PYTHONPATH": f"{fake.parent}{os.pathsep}{ROOT}"}
    number, _, build = torch.__version__.partition("+")
    hint = f"'torchvision==0.{int(number.split('.')[1]) + 15}.*'" + (" --index-url" if build == "cpu" else "")
    said = f"torchvision 0.1 was not built for torch {torch.__version__}"
    shutil.copy(small_models / "sd.safetensors", masked.with_name("lone.safetensors"))
    # loaded part by part, out of one file, and with nothing beside that to say what is in it
    for model in (small_models / "sd-inpaint", small_models / "sd.safetensors", "lone.safetensors"):
        inpaint = ["inpaint", masked, "--prompt", "x", "--model", model, "-o", "out.png"]
        fails(run(*inpaint, env=env), 69, said, hint)
    network = real("compact4", masked.parent)
    fails(run("upscale", masked, "--backend", f"spandrel:{network}", "-o", "out.png", env=env), 69, said, hint)
