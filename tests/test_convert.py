"""Pickles become safetensors: the very weights, nothing run, nothing left behind where one is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import picture, with_mask

from imgedit import codec, registry
from imgedit.errors import DataError, FileError, UsageError
from imgedit.models import locate

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

Run = Callable[..., Any]
#: part → its weights as safetensors, and as the pickle that older releases wrote
PARTS = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.bin"),
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
}


def convert(path: Path) -> list[Path]:
    found: list[Path] = registry.backend("diffusion", "diffusers").convert(path)
    return found


@pytest.fixture
def pickled(small_models: Path, tmp_path: Path) -> Path:
    """A model all of whose weights are pickles."""
    from safetensors.torch import load_file

    shutil.copytree(small_models / "sd-inpaint", tmp_path / "old")
    for part, (safe, old) in PARTS.items():
        file = tmp_path / "old" / part / safe
        torch.save(load_file(file), file.with_name(old))
        file.unlink()
    # what no pipeline is loaded from
    (tmp_path / "old" / "unet" / "optimizer.bin").write_bytes(b"state of a training")
    (tmp_path / "old" / "safety_checker").mkdir()
    (tmp_path / "old" / "safety_checker" / "pytorch_model.bin").write_bytes(b"never read")
    return tmp_path / "old"


def test_a_folder_of_pickles_runs_once_it_is_converted(
    pickled: Path, small_models: Path, run: Run, tmp_path: Path
) -> None:
    codec.write_file(with_mask(picture("rgb8", 64, 64)), tmp_path / "in.png")
    inpaint = ["inpaint", "in.png", "--prompt", "x", "--steps", 1, "--model"]
    refused = run(*inpaint, "old", "-o", "no.png")
    assert refused.returncode == 65 and b"is a pickle" in refused.stderr
    assert b"imgedit models convert old;" in refused.stderr
    done = run("models", "convert", "old")
    assert done.returncode == 0, done.stderr
    names = sorted(Path(line).relative_to("old").as_posix() for line in done.stdout.decode().splitlines())
    assert names == [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert not [path for path in pickled.rglob("*") if "converting" in path.name]
    for model, out in (("old", "one.png"), (small_models / "sd-inpaint", "two.png")):
        done = run(*inpaint, model, "-o", out)
        assert done.returncode == 0, done.stderr
    one, two = (codec.read_file(tmp_path / name, codec.Limits()) for name in ("one.png", "two.png"))
    assert one.digest == two.digest
    # once more changes nothing: scripts may say it again
    times = {path: path.stat().st_mtime_ns for path in pickled.rglob("*.safetensors")}
    again = run("models", "convert", "old")
    assert again.returncode == 0 and len(again.stdout.splitlines()) == len(PARTS)
    assert times == {path: path.stat().st_mtime_ns for path in pickled.rglob("*.safetensors")}


def test_a_checkpoint_gives_its_weights_and_leaves_the_rest(small_models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    whole = load_file(small_models / "sd.safetensors")
    first = next(iter(whole))
    shared = {**whole, "the.same.memory": whole[first]}
    for content in ({"state_dict": shared, "epoch": 3, "global_step": 100}, shared):
        torch.save(content, tmp_path / "old.ckpt")
        (written,) = convert(tmp_path / "old.ckpt")
        assert written == tmp_path / "old.safetensors" and locate(str(written)).task == "text-to-image"
        found = load_file(written)
        assert found.keys() == shared.keys()
        assert all(np.array_equal(found[name].numpy(), value.numpy()) for name, value in shared.items())
        written.unlink()


class _Runs:
    """What a pickle can hold: a call that is made when it is read."""

    def __init__(self, told: Path) -> None:
        self.told = told

    def __reduce__(self) -> Any:
        return (Path.touch, (self.told,))


def sharded(whole: Path) -> dict[str, Any]:
    """Put two shards and their index in place of the pickle *whole*; return its tensors."""
    tensors: dict[str, Any] = torch.load(whole, weights_only=True)
    whole.unlink()
    names = [f"{whole.stem}-0000{number}-of-00002.bin" for number in (1, 2)]
    held = {name: names[number % 2] for number, name in enumerate(tensors)}
    for shard in names:
        torch.save({name: tensors[name] for name in tensors if held[name] == shard}, whole.with_name(shard))
    index = {"metadata": {"total_size": 7}, "weight_map": held}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(index))
    return tensors


def test_shards_are_converted_with_their_index(pickled: Path, small_models: Path, run: Run) -> None:
    from safetensors.torch import load_file

    wanted = {}
    for part, stem, new in (
        ("unet", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("text_encoder", "pytorch_model", "model"),
    ):
        tensors = sharded(pickled / part / f"{stem}.bin")
        wanted[part] = tensors, [f"{new}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    with pytest.raises(DataError, match="is a pickle") as error:
        locate(str(pickled))
    assert "imgedit models convert" in error.value.hint
    done = run("models", "convert", pickled)
    assert done.returncode == 0, done.stderr
    assert [line.rpartition("/")[2] for line in done.stdout.decode().splitlines()] == [
        *wanted["text_encoder"][1],
        "model.safetensors.index.json",
        *wanted["unet"][1],
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.fp16.safetensors",
    ]
    found = locate(str(pickled))
    for part, (tensors, names) in wanted.items():
        assert [path.name for path in found.files[part]] == names
        read = {name: value for path in found.files[part] for name, value in load_file(path).items()}
        assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)
        (index,) = (pickled / part).glob("*.safetensors.index.json")
        listed = json.loads(index.read_text())
        assert listed["metadata"] == {"total_size": 7} and listed["weight_map"].keys() == tensors.keys()
        assert all(name in load_file(pickled / part / shard) for name, shard in listed["weight_map"].items())


def test_an_index_leads_to_no_other_folder(pickled: Path, tmp_path: Path) -> None:
    file = pickled / "unet" / "diffusion_pytorch_model.bin"
    file.rename(tmp_path / "elsewhere.bin")
    index = {"weight_map": {"x": "../../elsewhere.bin"}}
    file.with_name("diffusion_pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert not [path for path in convert(pickled) if path.parent.name == "unet"]
    assert not list(tmp_path.glob("*.safetensors")) and not list((pickled / "unet").glob("*.safetensors*"))


def test_an_index_of_what_is_no_shard_is_none(pickled: Path) -> None:
    file = pickled / "unet" / "diffusion_pytorch_model.bin"
    file.rename(file.with_name("x.ckpt"))
    index = file.with_name("diffusion_pytorch_model.bin.index.json")
    index.write_text(json.dumps({"weight_map": {"x": "x.ckpt"}}))
    assert not [path for path in convert(pickled) if path.parent.name == "unet" and ".fp16" not in path.name]
    assert not list((pickled / "unet").glob("*.index.json.*")) and index.exists()


def test_nothing_deeper_than_the_parts_of_a_model_is_converted(pickled: Path) -> None:
    deeper = pickled / "unet" / "old"
    deeper.mkdir()
    (deeper / "diffusion_pytorch_model.bin").write_bytes((pickled / "unet/diffusion_pytorch_model.bin").read_bytes())
    assert all(path.parent.parent == pickled for path in convert(pickled))
    with pytest.raises(UsageError):
        convert(pickled.parent)


def test_a_conversion_that_was_broken_off_is_gone_on_with(pickled: Path) -> None:
    whole = pickled / "unet" / "diffusion_pytorch_model.bin"
    sharded(whole)
    convert(pickled)
    # as a full disk after the first shard leaves it
    for left in (
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
    ):
        whole.with_name(left).unlink()
    for half in (pickled / "unet").glob("*.fp16.*"):
        half.unlink()
    with pytest.raises(DataError) as error:
        locate(str(pickled))
    assert "imgedit models convert" in error.value.hint
    convert(pickled)
    assert len(locate(str(pickled)).files["unet"]) == 2


def test_shards_that_cannot_be_converted_are_not_said_to_be(pickled: Path) -> None:
    file = pickled / "unet" / "diffusion_pytorch_model.bin"
    file.rename(file.with_name("diffusion_pytorch_model-00001-of-00002.bin"))
    with pytest.raises(DataError, match="pickle") as error:
        locate(str(pickled))
    assert "convert" not in error.value.hint and "models list" in error.value.hint


def test_weights_that_cannot_be_written_leave_nothing(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch
    from safetensors import SafetensorError

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(FileError, match="No space left"):
        convert(pickled)
    assert not list(pickled.rglob("*.safetensors")) and not list(pickled.rglob(".converting*"))


def test_what_is_more_than_weights_is_refused_and_not_run(pickled: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    evil = pickle.dumps({"state_dict": _Runs(told)})
    (tmp_path / "evil.ckpt").write_bytes(evil)
    with pytest.raises(DataError, match="could run code"):
        convert(tmp_path / "evil.ckpt")
    (pickled / "unet" / "diffusion_pytorch_model.bin").write_bytes(evil)
    with pytest.raises(DataError, match=r"old/unet/diffusion_pytorch_model\.bin holds more than weights"):
        convert(pickled)
    assert not told.exists() and not (pickled / "unet" / "diffusion_pytorch_model.safetensors").exists()
    assert not list(tmp_path.glob("*.safetensors"))
    pickle.loads(evil)
    assert told.exists(), "it does run where it is let"


def test_what_cannot_be_converted_is_said(small_models: Path, tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "none.ckpt")
    with pytest.raises(DataError, match="no weights by name"):
        convert(tmp_path / "none.ckpt")
    for path in (small_models / "sd", small_models / "sd.safetensors"):
        with pytest.raises(UsageError):
            convert(path)
    (tmp_path / "short.ckpt").write_bytes((tmp_path / "none.ckpt").read_bytes()[:-50])
    with pytest.raises(DataError, match="damaged"):
        convert(tmp_path / "short.ckpt")
    with pytest.raises(FileError):
        convert(tmp_path / "absent.ckpt")
