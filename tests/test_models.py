"""Models: the Hub's cache, folders and files; what they are for; fetching, checking; never a socket offline."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import hub as fake
import pytest

from imgedit import models
from imgedit.errors import DataError, ImgeditError, Unavailable, UsageError
from imgedit.models import catalogue, checking, hub, kinds, listing, pulling, weights

Run = Callable[..., CompletedProcess[Any]]
ID = "someone/walls"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty cache that this process uses, without a network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def said(result: CompletedProcess[Any]) -> tuple[list[str], list[str]]:
    """Return the errors and the hints that a command printed; anything else on stderr is a failure."""
    lines = result.stderr.decode().splitlines()
    assert all(line.startswith(("error: ", "hint: ", "warning: ")) for line in lines), result.stderr.decode()
    return [line for line in lines if line.startswith("error: ")], [line for line in lines if line.startswith("hint: ")]


# --- where things lie -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(
    given: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert str(models.settings.cache_dir()) == folder
    import subprocess

    ask = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=dict(os.environ))
    assert theirs.stdout.strip() == folder


def test_options_become_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, "")
    models.configure()
    assert not models.settings.offline()
    models.configure(offline=True, cache_dir=tmp_path)
    assert models.settings.offline() and models.settings.cache_dir() == tmp_path
    assert os.environ["HF_HUB_OFFLINE"] == "1" and os.environ["HF_HUB_CACHE"] == str(tmp_path)
    models.configure(offline=False)
    assert models.settings.offline(), "what was asked for once is not undone"


def test_every_known_model_is_well_formed() -> None:
    ids = catalogue.ids()
    assert len(set(ids)) == len(ids) and catalogue.DEFAULT in ids
    for entry in catalogue.entries():
        assert hub.parse(entry.id)[0] == entry.id
        assert entry.task in (kinds.INPAINT, kinds.TEXT, kinds.UPSCALE, kinds.FILL)
        assert entry.licence and (entry.native is None or entry.native % 64 == 0)
    default = catalogue.find(catalogue.DEFAULT)
    assert default is not None and default.task == kinds.INPAINT and not default.gated


@pytest.mark.parametrize("name", ["a/b/c", "../b", "a/..", "a--b/c", "/", "", "a/b@", "a b/c", "a/b\n"])
def test_what_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        hub.parse(name)


# --- safetensors ------------------------------------------------------------------------------------------


def test_a_header_says_what_is_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(fake.safetensors({"a": (2, 3), "b": (5,)}))
    found = weights.header(file)
    assert found.shapes == {"a": (2, 3), "b": (5,)} and set(found.dtypes.values()) == {"F32"}
    assert found.values == 11


def _broken() -> dict[str, bytes]:
    good = fake.safetensors({"a": (40, 3), "b": (5,)})
    length = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + length])

    def with_header(entries: Any) -> bytes:
        text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
        return struct.pack("<Q", len(text)) + text + good[8 + length :]

    return {
        "empty": b"",
        "seven bytes": good[:7],
        "no header": good[:8],
        "cut in the header": good[: 8 + length // 2],
        "cut in the weights": good[:-1],
        "too long": good + b"x",
        "a length of all ones": b"\xff" * 8 + good[8:],
        "a page instead": b"<!DOCTYPE html><html>" + b" " * 1000,
        "no json": with_header(b"{" + b"x" * 100),
        "a list": with_header([1, 2]),
        "no tensor": struct.pack("<Q", 2) + b"{}",
        "a shape of text": with_header({**header, "a": {**header["a"], "shape": ["x"]}}),
        "a negative shape": with_header({**header, "a": {**header["a"], "shape": [-40, -3]}}),
        "offsets that do not fit": with_header({**header, "a": {**header["a"], "data_offsets": [0, 4]}}),
        "offsets beyond the end": with_header({**header, "b": {**header["b"], "data_offsets": [9999, 10019]}}),
        "no offsets": with_header({"a": {"dtype": "F32", "shape": [1]}}),
        "nested too deep": with_header(b"[" * 100_000),
    }


@pytest.mark.parametrize("name", _broken())
def test_a_damaged_file_is_data_error(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(_broken()[name])
    with pytest.raises(DataError) as caught:
        weights.header(file)
    assert "x.safetensors" in caught.value.message and str(tmp_path) not in caught.value.message


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(fake.safetensors({"a": (1,)}))
    before = weights.digest(file), weights.header(file)
    file.write_bytes(fake.safetensors({"a": (2,)}))
    assert weights.digest(file) == fake.digests(file.read_bytes())[0] != before[0]
    assert weights.header(file).shapes == {"a": (2,)}


# --- finding models ---------------------------------------------------------------------------------------


def test_a_model_in_the_cache_is_found_with_its_commit_and_digests(cache: Path) -> None:
    folder = fake.into_cache(cache, ID, fake.model())
    found = models.locate(ID)
    assert found.path == folder and not found.single and found.revision == fake.COMMIT and found.task == "inpaint"
    assert {name: [path.name for path in paths] for name, paths in found.files.items()} == {
        "unet": ["diffusion_pytorch_model.safetensors"],
        "vae": ["diffusion_pytorch_model.safetensors"],
    }
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert found.digests[unet] == fake.digests(fake.model()[unet])[0]
    assert found.record["id"] == ID and found.record["revision"] == fake.COMMIT
    assert found.record[unet] == f"sha256:{found.digests[unet]}"


@pytest.mark.parametrize("revision", ["main", "fp16", fake.COMMIT, fake.COMMIT[:8]])
def test_revisions_are_pinned_to_commits(revision: str, cache: Path) -> None:
    fake.into_cache(cache, ID, fake.model())
    other = "f" * 40
    fake.into_cache(cache, ID, fake.model(channels=4, name="StableDiffusionPipeline"), commit=other, ref="fp16")
    found = models.locate(f"{ID}@{revision}")
    assert (found.revision, found.task) == (
        (other, "text-to-image") if revision == "fp16" else (fake.COMMIT, "inpaint")
    )


def test_half_precision_is_taken_where_there_is_nothing_else(cache: Path) -> None:
    files = fake.model()
    del files["unet/diffusion_pytorch_model.safetensors"]
    fake.into_cache(cache, ID, files)
    found = models.locate(ID)
    assert (found.variant("unet"), found.variant("vae"), found.variant("none")) == ("fp16", None, None)


def test_shards_are_all_taken_in_order(cache: Path) -> None:
    files = fake.model()
    name = "unet/diffusion_pytorch_model"
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for number, shard in enumerate(names):
        files[f"unet/{shard}"] = fake.safetensors({f"w{number}": (4 + number,)})
    index = {"weight_map": {"w1": names[1], "w0": names[0]}}
    files[f"{name}.safetensors.index.json"] = json.dumps(index).encode()
    del files[f"{name}.safetensors"], files[f"{name}.fp16.safetensors"]
    folder = fake.into_cache(cache, ID, files)
    assert [path.name for path in models.locate(ID).files["unet"]] == names
    (folder / "unet" / names[1]).unlink()
    with pytest.raises(Unavailable, match="here in part: unet"):
        models.locate(ID)


def test_a_blob_that_is_a_link_into_a_shared_store_is_checked_by_its_own_name(cache: Path) -> None:
    """Newer caches keep one copy for all models, under another digest: that one is not a sha256."""
    folder = fake.into_cache(cache, ID, fake.model())
    blob = (folder / "unet" / "diffusion_pytorch_model.safetensors").resolve()
    store = cache / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    assert models.locate(ID).digests and all(not file.fault for file in checking.verify(ID))


def test_a_damaged_blob_is_found_by_its_digest(cache: Path) -> None:
    folder = fake.into_cache(cache, ID, fake.model())
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(unet.read_bytes())
    data[-1] ^= 1
    unet.resolve().write_bytes(data)
    found = models.locate(ID)
    with pytest.raises(DataError, match="damaged"):
        assert found.digests
    faults = {file.file: file.fault for file in checking.verify(ID)}
    assert [name for name, fault in faults.items() if fault] == ["unet/diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize(
    "lost", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json", "tokenizer/vocab.json"]
)
def test_what_is_missing_of_a_model_is_named(lost: str, cache: Path) -> None:
    files = fake.model()
    part = lost.partition("/")[0]
    for name in [name for name in files if name.startswith(part) and ("config" not in lost or name == lost)]:
        del files[name]
    if "diffusion" in lost:
        files["unet/config.json"] = fake.model()["unet/config.json"]
    fake.into_cache(cache, ID, files)
    if "config" in lost:  # the weights alone say nothing of what they are: that is found when they are loaded
        assert models.locate(ID).files["unet"]
        return
    with pytest.raises(Unavailable, match=part):
        models.locate(ID)
    assert listing.rows()[-1].state == f"in part: {part} is missing"


def test_folders_and_files_are_found_and_recorded_without_the_folders_they_lie_in(
    tmp_path: Path, cache: Path, small_models: Path
) -> None:
    for kind, task in [("sd-inpaint", "inpaint"), ("sd", "text-to-image"), ("xl", "text-to-image"), ("sd2", None)]:
        for ending in ("", ".safetensors"):
            found = models.locate(str(small_models / f"{kind}{ending}"))
            assert found.single == bool(ending) and found.revision is None
            assert task is None or found.task == task
            assert found.record["id"] == f"{kind}{ending}" and str(small_models) not in str(found.record)
            assert all(len(digest) == 64 for digest in found.digests.values())


def test_a_repository_of_one_file_is_that_file(cache: Path) -> None:
    data = fake.safetensors({"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)})
    folder = fake.into_cache(cache, ID, {"inpainting.safetensors": data, "README.md": b"#"})
    found = models.locate(ID)
    assert found.single and found.path == folder / "inpainting.safetensors" and found.task == "inpaint"
    assert found.revision == fake.COMMIT and found.record["id"] == ID


@pytest.mark.parametrize(
    ("shapes", "task"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}, "inpaint"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "text-to-image"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (256, 7, 3, 3)}, "upscale"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 8, 3, 3)}, "instructed editing"),
        ({"conv_in.weight": (320, 9, 3, 3)}, "a UNet alone"),
        ({"encoder.conv_in.weight": (128, 3, 3, 3), "quant_conv.weight": (8, 8, 1, 1)}, "a VAE alone"),
        ({"lora_unet_down.lora_up.weight": (4, 4)}, "a LoRA, an addition to a model"),
        ({"model.model.1.ffc.convl2l.weight": (64, 4, 7, 7)}, "fill"),
        ({"body.0.rdb1.conv1.weight": (32, 64, 3, 3)}, "upscale"),
        ({"text_model.encoder.layers.0.mlp.fc1.weight": (8, 8)}, "a text encoder alone"),
        ({"something": (1,)}, "unknown"),
    ],
)
def test_the_task_of_a_file_is_read_from_its_header(
    shapes: dict[str, tuple[int, ...]], task: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(fake.safetensors(shapes))
    assert kinds.of_file(weights.header(file)) == task


@pytest.mark.parametrize(
    ("name", "channels", "task"),
    [
        ("StableDiffusionUpscalePipeline", 7, "upscale"),
        ("StableDiffusionInstructPix2PixPipeline", 8, "instructed editing"),
        ("StableDiffusionDepth2ImgPipeline", 5, "depth-to-image"),
        ("StableDiffusionPipeline", 9, "inpaint"),
        ("StableDiffusionPipeline", 7, "upscale"),
        ("StableDiffusionInpaintPipeline", 4, "text-to-image"),
    ],
)
def test_the_task_of_a_folder_is_read_from_its_configuration(name: str, channels: int, task: str, cache: Path) -> None:
    fake.into_cache(cache, ID, fake.model(channels=channels, name=name))
    if task in kinds.FOR_INPAINT:
        assert models.locate(ID).task == task
    else:
        with pytest.raises(DataError, match=f"is (for )?{task}, not for inpaint"):
            models.locate(ID)


# --- the command ------------------------------------------------------------------------------------------


def test_list_path_and_verify(run: Run, cache: Path) -> None:
    folder = fake.into_cache(cache, ID, fake.model())
    listed = json.loads(run("models", "list", "--json").stdout)
    assert listed["schema"] == 1 and listed["cache"] == str(cache)
    rows = {row["id"]: row for row in listed["models"]}
    assert set(catalogue.ids()) < set(rows)
    assert rows[ID]["state"] == "here" and rows[ID]["revisions"] == [fake.COMMIT] and rows[ID]["task"] == "inpaint"
    # two names may share a blob: it is counted once
    assert rows[ID]["bytes"] == sum(map(len, set(fake.model().values()))) + len(fake.COMMIT)
    assert rows[catalogue.DEFAULT]["state"] == "not here"
    text = run("models", "list").stdout.decode().splitlines()
    assert len(text) == len(rows) and any(line.startswith(ID) and " here" in line for line in text)

    assert run("models", "path", ID).stdout.decode().strip() == str(folder)
    assert run("models", "verify").returncode == run("models", "verify", ID).returncode == 0

    (folder / "tokenizer" / "merges.txt").resolve().write_bytes(b"#version: 0.3\n")
    (folder / "vae" / "config.json").resolve().unlink()
    result = run("models", "verify", ID, "--json")
    assert result.returncode == 1
    faults = {file["file"]: file["fault"] for file in json.loads(result.stdout)["files"] if file["fault"]}
    assert set(faults) == {"tokenizer/merges.txt", "vae/config.json"} and faults["vae/config.json"] == "missing"


def test_remove_deletes_a_model_and_nothing_else(run: Run, cache: Path, tmp_path: Path) -> None:
    fake.into_cache(cache, ID, fake.model())
    other = fake.into_cache(cache, "someone/else", fake.model())
    mine = tmp_path / "someone" / "mine"
    mine.mkdir(parents=True)
    asked = run("models", "remove", ID)
    assert asked.returncode == 2 and "--yes" in asked.stderr.decode() and hub.repository(ID).is_dir()
    done = run("models", "remove", ID, "--yes")
    assert done.returncode == 0 and not hub.repository(ID).exists()
    assert other.is_dir() and run("models", "remove", ID, "--yes").returncode == 69
    for name in ("someone/mine", str(mine), "../cache", f"{ID}/.."):
        result = run("models", "remove", name, "--yes")
        assert result.returncode in (2, 69) and len(said(result)[0]) == 1
    assert mine.is_dir() and other.is_dir()


@pytest.fixture
def no_sockets(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which Python ends at the first socket, and that says so to a file."""
    folder = tmp_path / "no-sockets"
    folder.mkdir()
    operators = Path(__file__).parent / "operators"
    (folder / "sitecustomize.py").write_text(
        f"import os, runpy, sys\nrunpy.run_path({str(operators / 'sitecustomize.py')!r})\n"
        "def hook(event, arguments):\n"
        "    if event.startswith('socket.') and event not in ('socket.gethostname',):\n"
        "        os.write(2, f'socket: {event} {arguments}'.encode())\n"
        "        os._exit(99)\n"
        "sys.addaudithook(hook)\n"
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parents[1]}"}


def test_the_ban_on_sockets_works(run: Run, no_sockets: dict[str, str], tmp_path: Path) -> None:
    online = {**no_sockets, "HF_HUB_OFFLINE": "", "HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert run("models", "pull", ID, env=online).returncode == 99


@pytest.mark.parametrize("by", ["option", "environment"])
def test_offline_opens_no_socket(
    by: str, run: Run, no_sockets: dict[str, str], tmp_path: Path, small_models: Path, picture_with_mask: Path
) -> None:
    cache = tmp_path / "cache"
    # a real model, in the cache's real layout
    files = {
        path.relative_to(small_models / "sd-inpaint").as_posix(): path.read_bytes()
        for path in (small_models / "sd-inpaint").rglob("*")
        if path.is_file()
    }
    fake.into_cache(cache, ID, files)
    env = {**no_sockets, "HF_HUB_OFFLINE": "1" if by == "environment" else ""}
    shared = ["--cache-dir", cache, *(["--offline"] if by == "option" else [])]
    for arguments in (["list"], ["path", ID], ["verify"], ["verify", ID]):
        result = run("models", *arguments, *shared, env=env)
        assert result.returncode == 0, result.stderr.decode()
    for arguments in (["pull", ID], ["path", "someone/else"]):
        result = run("models", *arguments, *shared, env=env)
        assert result.returncode == 69 and len(said(result)[0]) == len(said(result)[1]) == 1
    inpaint = ["inpaint", picture_with_mask, "--prompt", "a wall", "--steps", 2, "-o", tmp_path / "out.png"]
    result = run(*inpaint, "--model", ID, *shared, env=env)
    assert result.returncode == 0, result.stderr.decode()
    step = json.loads((tmp_path / "out.png.json").read_text())["steps"][-1]
    assert step["model"]["id"] == ID and step["model"]["revision"] == fake.COMMIT
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert step["model"][unet] == f"sha256:{fake.digests(files[unet])[0]}"
    result = run(*inpaint, "--model", "someone/else", *shared, env=env)
    assert result.returncode == 69 and "imgedit models pull someone/else" in said(result)[1][0]


@pytest.fixture
def picture_with_mask(tmp_path: Path) -> Path:
    from conftest import picture, with_mask

    from imgedit import codec

    codec.write_file(with_mask(picture("rgb8", 64, 64)), tmp_path / "masked.png")
    return tmp_path / "masked.png"


# --- the Hub ----------------------------------------------------------------------------------------------

NEEDED = {
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
}


def test_what_is_needed_of_a_model_is_chosen_and_no_pickle() -> None:
    listed = [pulling.Remote(name, len(data), None) for name, data in fake.model().items()]
    assert {file.path for file in pulling.choose(listed)} == NEEDED
    alone = [pulling.Remote("4x.safetensors", 1, None), pulling.Remote("4x.pth", 1, None)]
    assert [file.path for file in pulling.choose(alone)] == ["4x.safetensors"]
    for pickles in (
        ["4x.pth", "README.md"],
        ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"],
    ):
        with pytest.raises(DataError, match="pickle"):
            pulling.choose([pulling.Remote(name, 1, None) for name in pickles])


@pytest.fixture
def online(tmp_path: Path) -> Callable[[fake.Hub], dict[str, str]]:
    def made(served: fake.Hub) -> dict[str, str]:
        return {"HF_ENDPOINT": served.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": ""}

    return made


def test_a_pull_that_breaks_off_goes_on_where_it_broke(
    run: Run, online: Callable[[fake.Hub], dict[str, str]], tmp_path: Path
) -> None:
    files = fake.model()
    large = "unet/diffusion_pytorch_model.fp16.safetensors"
    # huggingface_hub keeps what came in whole chunks of 10 MiB
    files[large] = fake.safetensors({"conv_in.weight": (320, 9, 3, 3), "more": (7_000_000,)}, fill=7)
    with fake.serving(fake.Hub({ID: files}, cut={large})) as served:
        result = run("models", "pull", ID, env=online(served))
        assert result.returncode == 0, result.stderr.decode()
        assert served.fetched() == NEEDED
        ranges = [asked for method, path, asked in served.asked if method == "GET" and path.endswith(large)]
        assert ranges == [None, f"bytes={10 << 20}-"]
        folder = Path(result.stdout.decode().strip())
        assert folder.name == fake.COMMIT and folder == tmp_path / "cache" / "models--someone--walls" / "snapshots" / (
            fake.COMMIT
        )
        assert all((folder / name).read_bytes() == files[name] for name in NEEDED)
        # a second time nothing is sent again, and what is here is used without asking
        before = len(served.asked)
        assert run("models", "pull", ID, env=online(served)).returncode == 0
        assert {method for method, path, _ in served.asked[before:] if "/resolve/" in path} <= {"HEAD"}
    assert run("models", "verify", ID, env=online(served)).returncode == 0


def _failures() -> dict[str, tuple[fake.Hub, int, str, str]]:
    """Return name → what is served, the exit code, and a part of the error and of the hint."""
    pickled = {name: data for name, data in fake.model().items() if not name.endswith(".safetensors")}
    vae = "vae/diffusion_pytorch_model.safetensors"
    return {
        "not found": (fake.Hub({}), 69, "no model 'someone/walls'", "models list"),
        "gated": (fake.Hub({}, gated={ID}), 69, "gated", "hf auth login"),
        "no such revision": (fake.Hub({ID: fake.model()}), 69, "no revision 'v9'", "imgedit models pull"),
        "pickles only": (fake.Hub({ID: pickled}), 65, "pickle", "imgedit models list"),
        "came damaged": (fake.Hub({ID: fake.model()}, wrong={vae}), 65, "came damaged", "imgedit models pull"),
    }


@pytest.mark.parametrize("name", _failures())
def test_what_goes_wrong_in_a_pull_is_said(name: str, run: Run, online: Callable[[fake.Hub], dict[str, str]]) -> None:
    served, code, message, hint = _failures()[name]
    with fake.serving(served):
        more = ["--revision", "v9"] if name == "no such revision" else []
        result = run("models", "pull", ID, *more, env=online(served))
    errors, hints = said(result)
    assert result.returncode == code, result.stderr.decode()
    assert len(errors) == len(hints) == 1 and message in errors[0] and hint in hints[0]
    if name == "came damaged":  # what is wrong does not stay, so that the next pull can mend it
        assert run("models", "verify", ID, env=online(served)).returncode == 1


def test_no_network_is_said(run: Run, tmp_path: Path, picture_with_mask: Path) -> None:
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": ""}
    for command in (
        ["models", "pull", ID],
        ["inpaint", picture_with_mask, "--prompt", "x", "--model", ID, "-o", "o.png"],
    ):
        result = run(*command, env=env)
        errors, hints = said(result)
        assert result.returncode == 69 and len(errors) == len(hints) == 1, result.stderr.decode()
        assert "cannot be reached" in errors[0] and not Path(tmp_path / "o.png").exists()


def test_a_full_disk_is_said_before_and_after(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: usage(1, 1, 10**9))
    with pytest.raises(ImgeditError, match=r"needs 4\.0 GB .* where 1\.0 GB are free") as caught:
        pulling._room(ID, fake.COMMIT, [pulling.Remote("x.safetensors", 4 * 10**9, "0" * 64)])
    assert caught.value.exit_code == 74 and "--cache-dir" in caught.value.hint
    wrapped = RuntimeError("worker failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    error = pulling._said(wrapped, ID, "main")
    assert error.exit_code == 74 and "disk is full" in error.message


def test_help_needs_no_package(run: Run) -> None:
    here = Path(__file__).parent
    env = {"PYTHONPATH": f"{here / 'poison'}{os.pathsep}{here.parent}"}
    for name in ("list", "pull", "path", "verify", "remove"):
        result = run("models", name, "--help", env=env)
        assert result.returncode == 0 and not result.stderr and b"--cache-dir" in result.stdout
    assert run("models", "list", env=env).returncode == 0
    mistyped = run("models", "lst", env=env)
    assert mistyped.returncode == 2 and len(said(mistyped)[0]) == len(said(mistyped)[1]) == 1


def test_remove_leaves_what_another_model_shares(cache: Path) -> None:
    data = fake.model()["unet/diffusion_pytorch_model.safetensors"]
    for id_ in (ID, "someone/else"):
        folder = fake.into_cache(cache, id_, fake.model())
        blob = hub.repository(id_) / "blobs" / fake.digests(data)[0]
        store = cache / "blobs" / "ab" / ("ab" * 32)
        store.parent.mkdir(parents=True, exist_ok=True)
        store.write_bytes(data)
        blob.unlink()
        blob.symlink_to(os.path.relpath(store, blob.parent))
    checking.remove(ID)
    assert not hub.repository(ID).exists()
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == data
    assert all(not file.fault for file in checking.verify("someone/else"))


# --- what a user gets wrong -------------------------------------------------------------------------------


def _two_revisions(cache: Path) -> tuple[Path, Path]:
    """Return the folders of two revisions that share all but the UNet."""
    other = fake.model(channels=4, name="StableDiffusionPipeline")
    return (
        fake.into_cache(cache, ID, fake.model()),
        fake.into_cache(cache, ID, other, commit="f" * 40, ref="text"),
    )


def test_remove_of_a_revision_that_is_not_here_deletes_nothing(run: Run, cache: Path) -> None:
    first, second = _two_revisions(cache)
    before = hub.files(cache)
    for revision in ("nosuchrev", "a" * 40, "fffffff0"):
        result = run("models", "remove", f"{ID}@{revision}", "--yes")
        errors, hints = said(result)
        assert result.returncode == 69 and len(errors) == len(hints) == 1
        assert repr(revision) in errors[0] and first.name in hints[0] and second.name in hints[0]
    assert hub.files(cache) == before


@pytest.mark.parametrize("revision", ["text", "f" * 40, "f" * 9])
def test_remove_of_a_revision_leaves_the_others_whole(revision: str, run: Run, cache: Path) -> None:
    first, second = _two_revisions(cache)
    size = hub.size(hub.repository(ID))
    asked = run("models", "remove", f"{ID}@{revision}")
    assert asked.returncode == 2 and "f" * 40 in asked.stderr.decode() and second.is_dir()
    freed = checking.remove(f"{ID}@{revision}")
    assert not second.exists() and hub.snapshot(ID, "text") is None
    # its reference, 40 bytes, is not counted
    assert freed > 1000 and hub.size(hub.repository(ID)) == size - freed - 40
    assert models.locate(ID).path == first and not any(file.fault for file in checking.verify(ID))
    checking.remove(f"{ID}@main")
    assert not hub.repository(ID).exists(), "nothing is left of a model without revisions"


def test_remove_of_a_revision_leaves_a_shared_store_whole(cache: Path) -> None:
    _, second = _two_revisions(cache)
    vae = (second / "vae" / "diffusion_pytorch_model.safetensors").resolve()
    store = cache / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    vae.rename(store)
    vae.symlink_to(os.path.relpath(store, vae.parent))
    checking.remove(f"{ID}@text")
    assert not second.exists() and not any(file.fault for file in checking.verify(ID))


@pytest.mark.parametrize(
    ("files", "off"),
    [
        ({}, "model_index.json"),
        ({"README.md": b"# A model"}, "model_index.json"),
        ({"model_index.json": b"{"}, "model_index.json"),
        ({"pytorch_model.bin": b"pickle", "config.json": b"{}"}, "pytorch_model.bin"),
        ({"lost": b"vae/diffusion_pytorch_model.safetensors"}, "vae"),
        ({"lost": b"tokenizer/"}, "tokenizer"),
        ({"pickled": b"unet/"}, "unet/diffusion_pytorch_model.bin"),
    ],
    ids=str,
)
def test_verify_fails_for_a_folder_that_is_no_whole_model(
    files: dict[str, bytes], off: str, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    if spoilt := {**files}.pop("lost", b"").decode():
        files = {name: data for name, data in fake.model().items() if not name.startswith(spoilt)}
    elif spoilt := {**files}.pop("pickled", b"").decode():
        files = {n: d for n, d in fake.model().items() if not (n.startswith(spoilt) and n.endswith("safetensors"))}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    result = run("models", "verify", folder)
    faults = [line for line in result.stdout.decode().splitlines() if not line.endswith(("good (header)", "  read"))]
    assert result.returncode == 1 and len(faults) == 1 and off in faults[0], result.stdout.decode()


def test_verify_passes_a_whole_folder_and_fails_files_that_are_no_weights(run: Run, tmp_path: Path) -> None:
    for name, data in fake.model().items():
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "mine" / name).write_bytes(data)
    assert run("models", "verify", tmp_path / "mine").returncode == 0
    assert run("models", "verify", tmp_path / "mine" / "v1-5-pruned.safetensors").returncode == 0
    for name, reason in (("README.md", "no safetensors file"), ("v1-5-pruned.ckpt", "a pickle")):
        result = run("models", "verify", tmp_path / "mine" / name)
        assert result.returncode == 1 and f"{name}  {reason}" in result.stdout.decode()


def test_verify_of_all_leaves_configurations_alone(run: Run, cache: Path) -> None:
    """A single file's configuration is kept in the cache without weights: as it should be, until it is named."""
    fake.into_cache(cache, ID, {n: d for n, d in fake.model().items() if n.endswith((".json", ".txt"))})
    assert run("models", "verify").returncode == 0
    assert run("models", "verify", ID).returncode == 1


def test_a_mistyped_folder_is_said_to_be_taken_as_an_id(run: Run, cache: Path, picture_with_mask: Path) -> None:
    inpaint = ["inpaint", picture_with_mask, "--prompt", "x", "-o", "o.png", "--model"]
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": ""}
    for command, env in (
        ([*inpaint, "models/sd-inpaint"], {}),
        ([*inpaint, "models/sd-inpaint"], unreachable),
        (["models", "verify", "models/sd-inpaint"], {}),
        (["models", "path", "models/sd-inpaint"], {}),
    ):
        result = run(*command, env=env)
        errors, hints = said(result)
        assert result.returncode == 69 and len(errors) == len(hints) == 1
        assert "there is no folder or file of this name here, so it was taken as a Hub id" in errors[0]
    result = run(*inpaint, catalogue.DEFAULT)
    assert result.returncode == 69 and "no folder" not in said(result)[0][0]


def test_a_pull_of_what_is_here_or_of_a_revision_offline(run: Run, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.safetensors").write_bytes(b"")
    for name, what in (("./folder", "folder"), ("folder", "folder"), ("x.safetensors", "file")):
        result = run("models", "pull", name)
        errors, hints = said(result)
        assert result.returncode == 2 and f"is a {what} that is here already" in errors[0]
        assert hints == [f"hint: check it: imgedit models verify {name}"]
    result = run("models", "pull", ID, "--revision", "x")
    errors, hints = said(result)
    assert result.returncode == 69 and f"{ID}@x" in errors[0] and hints[0].endswith(f"imgedit models pull {ID}@x")


@pytest.mark.parametrize("tasks", [kinds.FOR_INPAINT, (kinds.UPSCALE,), (kinds.FILL,)])
def test_the_hint_for_an_unknown_name_is_short_and_of_the_task(tasks: tuple[str, ...], cache: Path) -> None:
    with pytest.raises(UsageError) as caught:
        models.locate("word", tasks=tasks)
    named = [entry for entry in catalogue.entries() if entry.id in caught.value.hint]
    assert len(named) == 1 and named[0].task in tasks and "models list" in caught.value.hint
    assert len(caught.value.hint) < 120


def test_a_cache_that_is_no_folder_is_said(run: Run, tmp_path: Path, picture_with_mask: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    inpaint = ["inpaint", picture_with_mask, "--prompt", "x", "-o", "o.png"]
    for command in (["models", "list"], ["models", "verify"], ["models", "pull", ID], inpaint):
        result = run(*command, "--cache-dir", "file")
        errors, hints = said(result)
        assert result.returncode == 74 and len(errors) == len(hints) == 1 and "'file' is a file" in errors[0]
    result = run("models", "list", "--cache-dir", "nowhere")
    assert result.returncode == 74 and "no folder 'nowhere'" in said(result)[0][0]


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_the_file_that_is_off_is_named_from_its_model_on(part: str, cache: Path, tmp_path: Path) -> None:
    name = f"{part}/diffusion_pytorch_model.safetensors"
    files = {**fake.model(), name: fake.model()[name][:-1]}
    for file, data in files.items():
        (tmp_path / "truncd" / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "truncd" / file).write_bytes(data)
    with pytest.raises(DataError, match=f"^truncd/{name} is cut short") as caught:
        models.locate(str(tmp_path / "truncd"))
    assert str(tmp_path) not in caught.value.message
    fake.into_cache(cache, ID, files)
    with pytest.raises(DataError, match=f"^{ID}: {name} is cut short"):
        models.locate(ID)
    (tmp_path / "truncd" / part / "config.json").write_bytes(b"{")
    with pytest.raises(DataError, match=f"^truncd/{part}/config.json is damaged"):
        kinds.read_json(tmp_path / "truncd" / part / "config.json")


def test_a_method_says_that_its_model_is_not_here(cache: Path, run: Run) -> None:
    def needed() -> dict[str, str]:
        rows = json.loads(run("backends", "--json").stdout)["backends"]
        return {f"{row['kind']}:{row['name']}": row["hint"] for row in rows if row["missing"] == ["a model"]}

    assert needed() == {
        "diffusion:diffusers": f"imgedit models pull {catalogue.DEFAULT}",
        "fill:spandrel": "imgedit models pull anyisalin/big-lama",
        "upscale:diffusion": "imgedit models pull stabilityai/stable-diffusion-x4-upscaler",
        "upscale:spandrel": "imgedit upscale --backend spandrel:FILE",
    }
    assert f"needs a model: imgedit models pull {catalogue.DEFAULT}  ".encode() in run("backends").stdout
    fake.into_cache(cache, ID, fake.model())
    assert "diffusion:diffusers" not in needed() and "upscale:diffusion" in needed()
