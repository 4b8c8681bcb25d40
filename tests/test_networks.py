"""Networks from files of weights: opened without running what is in them, told apart, and used to fill holes."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import hub as fake
import numpy as np
import pytest
from conftest import picture, with_mask

from imgedit import codec, engine, pipeline, registry
from imgedit.backends import networks
from imgedit.backends.fill import spandrel as fill
from imgedit.errors import DataError, ImgeditError, Unavailable, UsageError
from imgedit.frame import Frame

Run = Callable[..., CompletedProcess[Any]]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of networks with seeded weights: LaMa (in half precision, 100 MB), and a small upscaler."""
    import torch
    from safetensors.torch import save_file
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.LaMa import LaMa

    folder = tmp_path_factory.mktemp("networks")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        lama = LaMa(in_nc=4, out_nc=3)
        compact = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2)
    state = {k: v.half() if v.is_floating_point() else v for k, v in lama.state_dict().items()}
    # the last layer louder than as it is made: else all that comes out is grey
    last = max((k for k in state if k.endswith("weight")), key=lambda k: int(k.split(".")[2]))
    state[last] = state[last] * 40
    save_file(state, folder / "lama.safetensors")
    save_file(compact.state_dict(), folder / "compact.safetensors")
    torch.save({"params": compact.state_dict()}, folder / "compact.pth")
    return folder


@pytest.fixture(scope="session")
def lama(files: Path) -> Any:
    return registry.backend("fill", f"spandrel:{files / 'lama.safetensors'}")


# --- opening ----------------------------------------------------------------------------------------------


def test_a_network_says_what_it_is(files: Path) -> None:
    found = networks.load(str(files / "compact.safetensors"), "upscale")
    assert (found.purpose, found.scale, found.channels, found.name) == ("upscale", 2, (3, 3), "compact.safetensors")
    assert found.digest == fake.digests((files / "compact.safetensors").read_bytes())[0]
    assert str(files) not in str(found.fingerprint)
    filler = networks.load(str(files / "lama.safetensors"), "fill")
    assert (filler.purpose, filler.scale, filler.multiple_of, filler.minimum) == ("fill", 1, 8, 16)


def test_a_file_is_opened_once_and_again_when_it_has_changed(files: Path, tmp_path: Path) -> None:
    copy = tmp_path / "x.safetensors"
    copy.write_bytes((files / "compact.safetensors").read_bytes())
    first = networks.load(str(copy), "upscale")
    assert networks.load(str(copy), "upscale") is first
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    os.utime(copy, ns=(1, 1))
    assert networks.load(str(copy), "upscale").digest != first.digest


def test_weights_in_a_pickle_are_those_of_the_safetensors_file(files: Path) -> None:
    import torch

    given = torch.linspace(0, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
    results = [
        networks.load(str(files / name), "upscale").descriptor(given) for name in ("compact.pth", "compact.safetensors")
    ]
    assert torch.equal(*results)


class _Runs:
    """What a pickle can hold: a call that is made when it is read."""

    def __init__(self, told: Path) -> None:
        self.told = told

    def __reduce__(self) -> Any:
        return (Path.touch, (self.told,))


def _hostile(folder: Path, told: Path) -> dict[str, tuple[bytes, str, str]]:
    """Return name of a file → its bytes, and a part of the error and of the hint."""
    import io
    import zipfile

    import torch

    plain = pickle.dumps({"params": _Runs(told)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as parts:
        parts.writestr("archive/data.pkl", plain)
        parts.writestr("archive/version", "3\n")
    program = folder / "program.pt"
    torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)).save(program)
    other = io.BytesIO()
    torch.save({"something": torch.zeros(3)}, other)
    numbers = io.BytesIO()
    torch.save([torch.zeros(3)], numbers)
    return {
        "runs.pth": (archive.getvalue(), "could run code", ".safetensors"),
        "old.pth": (plain, "could run code", ".safetensors"),
        "program.pt": (program.read_bytes(), "TorchScript", ".safetensors"),
        "cut.pth": (other.getvalue()[:-200], "damaged", ""),
        "empty.pth": (b"", "damaged: it ends too early", ""),
        "other.pth": (other.getvalue(), "no network that is known", "spandrel"),
        "list.pth": (numbers.getvalue(), "no weights by name", ""),
        "sd.safetensors": (
            fake.safetensors({"model.diffusion_model.input_blocks.0.0.weight": (3, 9, 3, 3)}),
            "it is a diffusion model",
            "spandrel",
        ),
        "lama.safetensors": (
            fake.safetensors(
                {"model.model.1.ffc.convl2l.weight": (4, 4, 7, 7), "model.model.1.bn_l.running_mean": (4,)}
            ),
            "looks like a known network, and does not fit it",
            "",
        ),
        "text.safetensors": (b"hello", "not a safetensors file", ""),
    }


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # programs are made here to be refused
def test_nothing_in_a_file_is_run_and_what_is_no_network_is_said(tmp_path: Path) -> None:
    told = tmp_path / "told"
    cases = _hostile(tmp_path, told)
    pickle.loads(cases["old.pth"][0])
    assert told.exists(), "the pickle does run what it holds, where it is let"
    told.unlink()
    for name, (data, message, hint) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError) as caught:
            networks.load(str(tmp_path / name), "fill")
        assert message in caught.value.message and name in caught.value.message, (name, caught.value.message)
        assert hint in caught.value.hint and str(tmp_path) not in caught.value.message
    assert not told.exists()


def test_the_wrong_purpose_is_refused_with_the_right_command(run: Run, files: Path, tmp_path: Path) -> None:
    codec.write_file(with_mask(picture("rgb8", 32, 32)), tmp_path / "in.png")
    result = run("erase", tmp_path / "in.png", "--backend", f"spandrel:{files / 'compact.pth'}", "-o", "out.png")
    error, hint = result.stderr.decode().splitlines()
    assert result.returncode == 65 and "enlarges pictures" in error and "not one that fills" in error
    assert hint == f"hint: imgedit upscale --backend spandrel:{files / 'compact.pth'}"
    assert not (tmp_path / "out.png").exists()
    with pytest.raises(DataError, match="fills holes"):
        networks.load(str(files / "lama.safetensors"), "upscale")


# --- NAME:FILE ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "hint"),
    [
        ("spandrel", UsageError, "--backend spandrel:FILE"),
        ("spandrel:", UsageError, "--backend spandrel:FILE"),
        ("patch:x.pth", UsageError, "--backend patch"),
        ("spandrl:x.pth", UsageError, "did you mean 'spandrel'?"),
        ("spandrel:not-here.safetensors", Unavailable, "Hub id"),
        ("spandrel:not-here.pth", Unavailable, "Hub id"),
        ("spandrel:owner/name", Unavailable, "imgedit models pull owner/name"),
    ],
)
def test_a_backend_with_or_without_its_file(given: str, kind: type[ImgeditError], hint: str) -> None:
    with pytest.raises(kind) as caught:
        registry.backend("fill", given)
    assert hint in caught.value.hint


def test_an_empty_name_of_a_file_is_not_the_folder(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a file of weights"):
        registry.backend("fill", "spandrel:", tmp_path)
    codec.write_file(with_mask(picture("rgb8", 16, 16)), tmp_path / "in.png")
    result = run("erase", "in.png", "--backend", "spandrel:", "-o", "out.png")
    assert result.returncode == 2 and "needs a file of weights" in result.stderr.decode()


def test_the_example_for_a_name_that_is_no_model_is_of_the_purpose(tmp_path: Path) -> None:
    for purpose, example in (("fill", "lama"), ("upscale", "upscaler")):
        with pytest.raises(UsageError) as caught:
            networks.load("word", purpose)
        assert example in caught.value.hint and "inpainting" not in caught.value.hint


def test_the_list_of_backends_needs_no_file(run: Run) -> None:
    rows = json.loads(run("backends", "--json").stdout)["backends"]
    found = [row for row in rows if (row["kind"], row["name"]) == ("fill", "spandrel")]
    assert len(found) == 1 and found[0]["here"] and "spandrel:FILE" in found[0]["summary"]


def test_a_relative_file_is_looked_up_from_the_folder(
    files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(files)
    here = registry.backend("fill", "spandrel:lama.safetensors")
    monkeypatch.chdir(tmp_path)
    assert registry.backend("fill", "spandrel:lama.safetensors", files) is here
    with pytest.raises(Unavailable):
        registry.backend("fill", "spandrel:lama.safetensors")
    steps = "steps: [{mask: {rect: [8, 8, 9, 9]}}, {erase: {backend: 'spandrel:lama.safetensors', force: true}}]"
    (tmp_path / "p.yaml").write_text(steps)
    (tmp_path / "lama.safetensors").symlink_to(files / "lama.safetensors")
    monkeypatch.chdir(files.parent)
    found = pipeline.find(str(tmp_path / "p.yaml"))
    written = found.to_yaml()
    assert f"spandrel:{tmp_path / 'lama.safetensors'}" in written
    done = engine.Engine(found.calls, folder=found.folder).run(picture("rgb8", 32, 32))
    step = done.sidecar.steps[-1]
    # what was typed is recorded, and no folder more
    assert step.backend == "spandrel:lama.safetensors" and str(tmp_path) not in str(step)
    digest = fake.digests((files / "lama.safetensors").read_bytes())[0]
    assert step.model is not None and digest in step.model["net"]


# --- filling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rgb8", "rgb16"])
@pytest.mark.parametrize("size", [(1, 2), (7, 40), (33, 24)], ids=str)
def test_known_pixels_stay_and_the_hole_is_not_looked_at(lama: Any, kind: str, size: tuple[int, int]) -> None:
    frame = with_mask(picture(kind, *size))
    assert frame.mask is not None
    hole = frame.mask > 0
    once = lama.fill(frame.pixels, frame.mask, seed=0).pixels
    assert once.dtype == frame.pixels.dtype and np.array_equal(once[~hole], frame.pixels[~hole])
    other = frame.pixels.copy()
    other[hole] = np.iinfo(other.dtype).max - other[hole]
    assert np.array_equal(lama.fill(other, frame.mask, seed=7).pixels, once)


def test_the_fill_is_that_of_the_network(lama: Any, files: Path) -> None:
    """On a crop that needs no padding, the same numbers as spandrel's own call gives."""
    import torch

    frame = with_mask(picture("rgb16", 32, 40))
    assert frame.mask is not None
    hole = frame.mask > 0
    image = torch.from_numpy((frame.pixels / 65535).astype(np.float32)).permute(2, 0, 1)[None]
    network = networks.load(str(files / "lama.safetensors"), "fill")
    with torch.inference_mode():
        theirs = network.descriptor(image, torch.from_numpy(hole.astype(np.float32))[None, None])
    wanted = theirs[0].permute(1, 2, 0).numpy()[hole] * 65535
    found = lama.fill(frame.pixels, frame.mask, seed=0).pixels[hole]
    assert np.abs(found - wanted).max() < 2
    assert found.std() > 100, "the network gives more than one colour"


def test_grey_stays_grey_and_both_depths_agree(lama: Any) -> None:
    frame = with_mask(picture("grey8", 24, 24))
    assert frame.mask is not None
    filled = lama.fill(frame.pixels, frame.mask, seed=0).pixels
    assert (filled == filled[..., :1]).all()
    wide = lama.fill(frame.pixels * np.uint16(257), frame.mask, seed=0).pixels
    assert np.abs(wide / 257 - filled).max() <= 0.5 + 1e-6


def test_a_large_crop_is_worked_on_reduced(lama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "LARGEST", 1000)
    frame = with_mask(picture("rgb8", 51, 45))
    assert frame.mask is not None
    done = lama.fill(frame.pixels, frame.mask, seed=0)
    assert "1/2 of the scale" in done.why and done.pixels.shape == frame.pixels.shape
    assert np.array_equal(done.pixels[frame.mask == 0], frame.pixels[frame.mask == 0])


def test_a_network_that_gives_no_numbers_is_refused(files: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(files / "lama.safetensors")
    name = next(name for name in state if name.endswith("ffc.convl2l.weight"))
    state[name] = state[name] * float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    broken = registry.backend("fill", f"spandrel:{tmp_path / 'nan.safetensors'}")
    frame = with_mask(picture("rgb8", 16, 16))
    with pytest.raises(DataError, match=r"nan\.safetensors gives no finite numbers"):
        broken.fill(frame.pixels, frame.mask, seed=0)


def test_running_out_of_memory_is_said(lama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    frame = with_mask(picture("rgb8", 16, 16))
    network = lama.network
    monkeypatch.setattr(lama._backend, "network", network.__class__(**{**_fields(network), "descriptor": full}))
    with pytest.raises(ImgeditError) as caught:
        lama.fill(frame.pixels, frame.mask, seed=0)
    assert caught.value.exit_code == 75 and "--margin" in caught.value.hint


def _fields(network: networks.Network) -> dict[str, Any]:
    return {name: getattr(network, name) for name in network.__dataclass_fields__}


def test_erase_keeps_everything_else(run: Run, files: Path, tmp_path: Path) -> None:
    frame = with_mask(picture("rgba16", 40, 56))
    codec.write_file(frame, tmp_path / "in.png")
    result = run(
        "erase",
        "in.png",
        "--backend",
        f"spandrel:{os.path.relpath(files / 'lama.safetensors', tmp_path)}",
        "-o",
        "o.png",
    )
    assert result.returncode == 0, result.stderr.decode()
    done: Frame = codec.read_file(tmp_path / "o.png")
    assert frame.mask is not None and frame.alpha is not None and done.alpha is not None
    assert np.array_equal(done.pixels[frame.mask == 0], frame.pixels[frame.mask == 0])
    assert not np.array_equal(done.pixels, frame.pixels) and np.array_equal(done.alpha, frame.alpha)
    step = done.sidecar.steps[-1]
    assert step.outside == {"outside_changed": 0, "outside_max": 0} and step.notes["methods"] == {"spandrel": 1}
    assert {"torch", "spandrel", "safetensors"} <= set(step.versions)
    # a folder that the file lies in is nobody's business, and replaying finds it by its name
    assert step.backend == step.params["backend"] == "spandrel:lama.safetensors"
    same = run("replay", "o.png", "--verify", "--from", files / "lama.safetensors")
    assert same.returncode == 0, same.stderr.decode()
