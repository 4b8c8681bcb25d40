"""What is kept of every step, and doing recorded steps again: the same pixels, or where they part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import picture
from noise import behind_inpaint
from PIL import Image
from test_loop import Ink, written

from imgedit import codec, engine, history, registry
from imgedit.backends.adapter import adapt
from imgedit.cli.sinks import safe_stem
from imgedit.engine import Engine
from imgedit.errors import DataError, Unavailable
from imgedit.frame import Frame, Step
from imgedit.history import Places

STEPS = ["mask", "erase", "upscale", "match-hist"]
CALLS = [
    engine.call("mask", rect="20,20,30,10", feather=2),
    engine.call("erase"),
    engine.call("upscale", scale=1.5),
    engine.call("match-hist", reference="@before-upscale"),
]


def original(kind: str = "rgb8") -> Frame:
    return picture(kind, 60, 80)


def places(*files: Path, folders: tuple[Path, ...] = ()) -> Places:
    return Places(files, folders, codec.Limits())


def done(folder: Path, calls: list[engine.Call] | None = None, kind: str = "rgb8") -> Frame:
    """Write x.png and what comes of it, out.png; return that as it is read."""
    codec.write_file(original(kind), folder / "x.png")
    frame = codec.read_file(folder / "x.png", codec.Limits())
    codec.write_file(Engine(calls or CALLS, folder=folder, knows_input=True).run(frame), folder / "out.png")
    return codec.read_file(folder / "out.png", codec.Limits())


@pytest.mark.parametrize("kind", ["rgb8", "rgba16"])
def test_recorded_steps_give_the_same_pixels_again(kind: str, tmp_path: Path) -> None:
    result = done(tmp_path, kind=kind)
    for found in (places(tmp_path / "x.png"), places(folders=(tmp_path,))):
        outcome = history.replay(result.sidecar.steps, found)
        assert outcome.differs is None and outcome.frame.digest == result.digest and outcome.first == 1
        assert outcome.machine == []
        assert [s.result for s in outcome.frame.sidecar.steps] == [s.result for s in result.sidecar.steps]
        assert [s.mask for s in outcome.frame.sidecar.steps] == [s.mask for s in result.sidecar.steps]
        assert history.difference(outcome.frame, result) == {"pixels": 0, "most": 0, "psnr": None}


def changed(steps: tuple[Step, ...], number: int, **changes: Any) -> tuple[Step, ...]:
    import dataclasses

    return tuple(dataclasses.replace(s, **changes) if i == number else s for i, s in enumerate(steps))


def test_the_first_step_that_differs_is_named(tmp_path: Path) -> None:
    result = done(tmp_path)
    steps = result.sidecar.steps
    other = {**steps[1].params, "backend": "harmonic"}
    for number, changes, first in (
        (1, {"params": other}, 2),
        (0, {"params": {**steps[0].params, "feather": 0.0}}, 1),  # the pixels are the same, the mask is not
        (2, {"result": "sha256:0"}, 3),
    ):
        outcome = history.replay(changed(steps, number, **changes), places(tmp_path / "x.png"))
        assert outcome.differs == first
    outcome = history.replay(changed(steps, 1, params=other), places(tmp_path / "x.png"))
    gap = history.difference(outcome.frame, result)
    assert gap["pixels"] > 0 and gap["most"] > 0 and 10 < gap["psnr"] < 90


def test_the_digest_of_the_original_comes_first(tmp_path: Path) -> None:
    result = done(tmp_path)
    (tmp_path / "else").mkdir()
    pixels = original().pixels.copy()
    pixels[0, 0, 0] ^= 1
    codec.write_file(Frame(pixels), tmp_path / "else" / "x.png")
    with pytest.raises(DataError, match="not at hand"):
        history.replay(result.sidecar.steps, places(folders=(tmp_path / "else",)))
    with pytest.raises(DataError, match="not what any"):
        history.replay(result.sidecar.steps, places(tmp_path / "else" / "x.png", folders=(tmp_path,)))
    # under another name it is the same picture
    codec.write_file(original(), tmp_path / "else" / "y.png")
    assert history.replay(result.sidecar.steps, places(folders=(tmp_path / "else",))).differs is None


def test_what_is_called_as_the_original_was_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = done(tmp_path)
    (tmp_path / "many").mkdir()
    for number in range(9):
        Image.fromarray(picture("rgb8", 60, 80, seed=number + 1).pixels).save(tmp_path / "many" / f"{number}.png")
    shutil.copy(tmp_path / "x.png", tmp_path / "many" / "x.png")
    looked: list[str] = []
    read = codec.read_file

    def counted(path: Path, *rest: Any) -> Frame:
        looked.append(path.name)
        return read(path, *rest)

    monkeypatch.setattr(codec, "read_file", counted)
    assert history.replay(result.sidecar.steps, places(folders=(tmp_path / "many",)), "x.png").differs is None
    assert looked == ["x.png"]
    # a name that is wrong, or none, costs time alone
    assert history.replay(result.sidecar.steps, places(folders=(tmp_path / "many",)), "0.png").differs is None


def test_given_pictures_are_found_by_their_digests(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:50] = 255
    (tmp_path / "masks").mkdir()
    codec.write_file(Frame(mask[..., None].repeat(3, axis=2)), tmp_path / "masks" / "m.png")
    calls = [engine.call("mask", from_="masks/m.png", dilate=1), engine.call("erase")]
    result = done(tmp_path, calls)
    assert result.sidecar.steps[0].params["from"]["file"] == "m.png"
    steps = result.sidecar.steps
    found = places(tmp_path / "x.png", folders=(tmp_path / "masks",))
    assert history.replay(steps, found).frame.digest == result.digest
    with pytest.raises(DataError, match=r"m\.png is not at hand"):
        history.replay(steps, places(tmp_path / "x.png"))
    # a kept result stands for the step that cannot be done again
    (tmp_path / "kept").mkdir()
    frame = codec.read_file(tmp_path / "x.png", codec.Limits())
    other = frame.replace(mask=result.mask).with_sidecar(steps=(replace(steps[0], seconds=steps[0].seconds + 1),))
    codec.write_file(other, tmp_path / "kept" / "x.01-mask.png")
    with pytest.raises(DataError):  # of another run
        history.replay(steps, places(folders=(tmp_path / "kept",)))
    kept = frame.replace(mask=result.mask).with_sidecar(steps=steps[:1])
    codec.write_file(kept, tmp_path / "kept" / "x.01-mask.png")
    outcome = history.replay(steps, places(folders=(tmp_path / "kept",)))
    assert outcome.first == 2 and outcome.frame.digest == result.digest and "m.png" in outcome.why


def test_a_path_in_a_record_is_not_followed(tmp_path: Path) -> None:
    result = done(tmp_path)
    (tmp_path / "else").mkdir()
    codec.write_file(original(), tmp_path / "else" / "secret.png")
    steps, secret = result.sidecar.steps, str(tmp_path / "else" / "secret.png")
    for number, option, value, error in (
        (3, "reference", secret, DataError),
        (3, "reference", {"file": secret, "digest": "sha256:0"}, DataError),
        (1, "backend", f"spandrel:{secret}", Unavailable),
    ):
        forged = changed(steps, number, params={**steps[number].params, option: value})
        with pytest.raises(error, match="not at hand"):
            history.replay(forged, places(tmp_path / "x.png"))


def test_models_are_found_by_their_names_and_ids_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "walls").mkdir(parents=True)
    (tmp_path / "lama.safetensors").touch()
    (tmp_path / "outside").mkdir()
    at_hand = places(tmp_path / "lama.safetensors", folders=(tmp_path / "models",))

    def asked(option: str, value: Any, stage: str = "inpaint") -> Any:
        step = Step(stage=stage, params={option: value}, source="", result="")
        return history._params(step, at_hand)[option]

    assert asked("model", "walls") == str(tmp_path / "models" / "walls")
    assert asked("model", "/elsewhere/walls") == str(tmp_path / "models" / "walls")
    assert asked("backend", "spandrel:lama.safetensors", "erase") == f"spandrel:{tmp_path / 'lama.safetensors'}"
    assert asked("backend", "harmonic", "erase") == "harmonic"
    for name in ("owner/name", "owner/name@main", "owner/name@refs/pr/1"):
        assert asked("model", name) == name
    for name in ("none", "..", "../outside", str(tmp_path / "outside"), "~", "a/b/c", ""):
        with pytest.raises(Unavailable, match="not at hand"):
            asked("model", name)


def test_edits_of_other_programs_are_not_done_again(tmp_path: Path) -> None:
    first = done(tmp_path, CALLS[:2])
    pixels = first.pixels.copy()
    pixels[5:9, 5:9] = 200
    codec.write_file(Frame(pixels, mask=first.mask), tmp_path / "edited.png")
    external = Step(stage="external", params={}, source=first.digest, result=Frame(pixels).digest)
    edited = codec.read_file(tmp_path / "edited.png", codec.Limits())
    start = edited.with_sidecar(steps=(*first.sidecar.steps, external))
    result = Engine([engine.call("upscale", scale=2)]).run(start)
    with pytest.raises(DataError, match="another program") as error:
        history.replay(result.sidecar.steps, places(tmp_path / "x.png"))
    assert "--from" in error.value.hint
    outcome = history.replay(result.sidecar.steps, places(tmp_path / "edited.png"))
    assert outcome.first == 4 and outcome.frame.digest == result.digest
    with pytest.raises(DataError, match="last step"):
        history.replay(result.sidecar.steps[:-1], places(tmp_path / "x.png"))


def test_another_machine_is_said(tmp_path: Path) -> None:
    result = done(tmp_path)
    steps = changed(result.sidecar.steps, 1, versions={**result.sidecar.steps[1].versions, "numpy": "0.1"})
    outcome = history.replay(steps, places(tmp_path / "x.png"))
    assert any(said.startswith("numpy 0.1 →") for said in outcome.machine) and outcome.differs is None


def test_rounds_of_a_loop_are_done_again_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, eye = registry.backend, adapt("detect", Ink())
    monkeypatch.setattr(registry, "backend", lambda kind, *name: eye if kind == "detect" else real(kind, *name))
    codec.write_file(written((60, 70)), tmp_path / "x.png")
    calls = [
        engine.call("mask", rect="58,68,44,16"),
        engine.call("erase", until_clean=3, backend="harmonic", force=True),
        engine.call("upscale", scale=1.5),
    ]
    result = Engine(calls).run(codec.read_file(tmp_path / "x.png", codec.Limits()))
    assert [step.stage for step in result.sidecar.steps].count("erase") > 1
    outcome = history.replay(result.sidecar.steps, places(tmp_path / "x.png"))
    assert outcome.differs is None and outcome.frame.digest == result.digest
    assert len(outcome.frame.sidecar.steps) == len(result.sidecar.steps)


def test_a_model_that_is_not_here_is_stood_in_for_by_a_kept_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = behind_inpaint(monkeypatch)
    calls = [*CALLS[:1], engine.call("inpaint", prompt="x", model="owner/name", force=True), *CALLS[2:3]]
    result = done(tmp_path, calls)
    steps = result.sidecar.steps
    (tmp_path / "kept").mkdir()
    frames: list[Frame] = []
    again = Engine(calls, knows_input=True, after=frames.append)
    again.run(codec.read_file(tmp_path / "x.png", codec.Limits()))
    # seconds are of each run: a kept result is one of the very run
    kept = frames[1].with_sidecar(steps=steps[:2])
    noise.fail = lambda crops: Unavailable("the model 'owner/name' is not here", "imgedit models pull owner/name")
    found = places(tmp_path / "x.png", folders=(tmp_path / "kept",))
    with pytest.raises(Unavailable, match=r"step 2 \(inpaint\): the model 'owner/name' is not here") as error:
        history.replay(steps, found)
    assert error.value.hint.startswith("imgedit models pull owner/name") and "--keep" in error.value.hint
    with pytest.raises(Unavailable, match="the last step cannot be done again"):
        history.replay(steps[:2], found)
    codec.write_file(kept, tmp_path / "kept" / "x.02-inpaint.png")
    outcome = history.replay(steps, found)
    assert outcome.first == 3 and outcome.differs is None and outcome.frame.digest == result.digest
    assert "owner/name" in outcome.why and outcome.hint == "imgedit models pull owner/name"


# --- the command line ------------------------------------------------------------------------------------

Run = Callable[..., Any]


def test_every_step_is_kept_and_replays(tmp_path: Path, run: Run) -> None:
    codec.write_file(original(), tmp_path / "a.png")
    (tmp_path / "kept").mkdir()
    (tmp_path / "p.yaml").write_text(
        "keep: kept\nsteps:\n  - mask: {rect: [20, 20, 30, 10]}\n  - erase: {force: true}\n    id: first\n"
        "  - upscale: {scale: 2}\n  - match-hist: {reference: '@before-first'}\n"
    )
    assert run("run", "p.yaml", "a.png", "-o", "out.png").returncode == 0
    kept = sorted(path.name for path in (tmp_path / "kept").glob("*.json"))
    assert kept == [f"a.{i:02}-{name}.png.json" for i, name in enumerate(STEPS, 1)]
    frames = [codec.read_file(tmp_path / "kept" / name[:-5], codec.Limits()) for name in kept]
    result = codec.read_file(tmp_path / "out.png", codec.Limits())
    assert [frame.digest for frame in frames] == [step.result for step in result.sidecar.steps]
    assert [len(frame.sidecar.steps) for frame in frames] == [1, 2, 3, 4]
    assert result.sidecar.steps[1].id == "first"
    same = run("replay", "out.png", "--verify")
    assert same.returncode == 0 and b"4 steps, the same pixels" in same.stdout, same.stderr
    # from a kept result on, where the original is gone
    (tmp_path / "a.png").unlink()
    assert run("replay", "out.png", "--verify").returncode == 65
    later = run("replay", "out.png", "--verify", "--json", "--keep", "kept")
    assert later.returncode == 0 and json.loads(later.stdout)["first"] == 2, later.stderr
    # it can be written instead
    codec.write_file(original(), tmp_path / "b.png")
    assert run("replay", "out.png", "--from", "b.png", "-o", "again.png").returncode == 0
    assert codec.read_file(tmp_path / "again.png", codec.Limits()).digest == result.digest


def test_a_pipe_keeps_under_numbers_and_names_that_clash_are_refused(tmp_path: Path, run: Run) -> None:
    codec.write_file(original(), tmp_path / "a.png")
    (tmp_path / "kept").mkdir()
    masked = run("mask", "a.png", "--rect", "20,20,30,10").stdout
    assert run("erase", "--force", "--keep", "kept", "-o", "out.png", stdin=masked + masked).returncode == 2
    names = sorted(path.name for path in (tmp_path / "kept").glob("*.json"))
    assert names[0] == "000001.02-erase.png.json"
    (tmp_path / "b").mkdir()
    codec.write_file(original(), tmp_path / "b" / "a.png")
    refused = run("mask", "a.png", "b/a.png", "--keep", "kept")
    assert refused.returncode == 2 and b"same file" in refused.stderr and not refused.stdout
    missing = run("mask", "a.png", "--keep", "none")
    assert missing.returncode == 74 and b"mkdir -p none" in missing.stderr


def test_what_comes_through_a_pipe_is_kept_under_the_names_in_its_record(tmp_path: Path, run: Run) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("Photo.png", "b/photo.png", "000003.png"):
        Image.fromarray(original().pixels).save(tmp_path / name)
    evil = codec.read_file(tmp_path / "Photo.png", codec.Limits())
    assert evil.sidecar.image is not None
    image = replace(evil.sidecar.image, source="../../b/.evil\\..\\.x:y.png")
    codec.write_file(evil.with_sidecar(image=image), tmp_path / "evil.png")
    stream = b"".join(
        run("mask", name, "--rect", "20,20,30,10").stdout
        for name in ("Photo.png", "b/photo.png", "evil.png", "b/photo.png")
    )
    assert (
        run("mask", "-", "000003.png", "--rect", "1,1,9,9", "--keep", "kept", "-o", "b", stdin=stream).returncode == 0
    )
    names = sorted(path.name.removesuffix(".json") for path in (tmp_path / "kept").glob("*.json"))
    assert names == [
        "000003.01-mask.png",
        "Photo.02-mask.png",
        "photo-2.02-mask.png",
        "photo-3.02-mask.png",
        "x_y.02-mask.png",
    ]


def test_a_name_out_of_metadata_is_a_plain_one() -> None:
    for name, safe in (
        ("photo.jpg", "photo"),
        ("/etc/passwd", "passwd"),
        ("C:\\x\\a b.png", "a b"),
        ("..", ""),
        ("-rf.png", "rf"),
        ("a\0\n\x1b\udcff\u202eb", "a_____b"),
        ("Größe सूची.png", "Größe सूची"),
    ):
        assert safe_stem(name) == safe
    assert safe_stem("é" * 300) == "é" * 60


def test_a_replay_fetches_no_model(tmp_path: Path, run: Run, small_models: Path) -> None:
    Image.fromarray(original().pixels).save(tmp_path / "photo.png")
    (tmp_path / "kept").mkdir()
    shutil.copytree(small_models / "sd-inpaint", tmp_path / "owner" / "name")
    model = ("--prompt", "x", "--model", "owner/name", "--steps", 1, "--resolution", 64, "--force")
    masked = run("mask", "photo.png", "--rect", "20,20,30,10").stdout
    made = run("inpaint", *model, "--keep", "kept", "-o", "one.png", stdin=masked)
    assert made.returncode == 0, made.stderr
    assert [path.name for path in (tmp_path / "kept").glob("*.json")] == ["photo.02-inpaint.png.json"]
    assert run("upscale", "one.png", "--scale", 1.5, "-o", "x.png").returncode == 0
    # a record that names a Hub id, as one made with a pulled model does
    for name in ("x.png", "kept/photo.02-inpaint.png"):
        frame = codec.read_file(tmp_path / name, codec.Limits())
        steps = frame.sidecar.steps
        named = changed(steps, 1, params={**steps[1].params, "model": "owner/name"})
        codec.write_file(frame.with_sidecar(steps=named), tmp_path / name)
    shutil.rmtree(tmp_path / "owner")
    (tmp_path / "one.png").unlink()
    (tmp_path / "one.png.json").unlink()
    # nothing answers there: whoever asked would say so
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": ""}
    verify = ("replay", "x.png", "--from", "photo.png", "--verify")
    refused = run(*verify, env=env)
    assert refused.returncode == 69 and b"imgedit models pull owner/name" in refused.stderr, refused.stderr
    assert b"the network may not be used" in refused.stderr
    later = run(*verify, "--keep", "kept", env=env)
    assert later.returncode == 0 and b"1 step, the same pixels" in later.stdout, later.stderr
    assert b"warning: steps 1 to 2 were not done again" in later.stderr and b"models pull owner/name" in later.stderr
    assert not (tmp_path / "cache").exists()


def test_a_changed_result_does_not_verify(tmp_path: Path, run: Run) -> None:
    result = done(tmp_path)
    pixels = result.pixels.copy()
    pixels[3, 3] ^= 9
    # a record that claims these pixels
    steps = changed(result.sidecar.steps, 3, result=result.replace(pixels=pixels).digest)
    forged = result.replace(pixels=pixels).with_sidecar(
        steps=steps, image=Frame(pixels).sidecar.image, latents=None, tone=None
    )
    codec.write_file(forged, tmp_path / "forged.png")
    refused = run("replay", "forged.png", "--verify")
    assert refused.returncode == 1, refused.stderr
    assert b"1 pixels differ" in refused.stdout and b"step 4 (match-hist)" in refused.stderr
    said = json.loads(run("replay", "forged.png", "--verify", "--json").stdout)
    assert said["differs"] == 4 and said["pixels"] == 1 and said["same"] is False and said["tolerance"] is None
    # edited without a record
    codec.write_file(Frame(pixels), tmp_path / "edited.png")
    (tmp_path / "edited.png.json").write_bytes((tmp_path / "out.png.json").read_bytes())
    assert run("replay", "edited.png", "--verify").returncode == 65


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("replay", "out.png"), 2),
        (("replay", "out.png", "--verify", "-o", "y.png"), 2),
        (("replay", "none.png", "--verify"), 74),
        (("replay", "x.png", "--verify"), 65),
        (("replay", "out.png", "--verify", "--from", "none"), 74),
        (("replay", "out.png", "--verify", "--from", "out.png"), 65),
    ],
)
def test_what_cannot_be_replayed_is_said(arguments: tuple[str, ...], code: int, tmp_path: Path, run: Run) -> None:
    done(tmp_path)
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert result.stderr.startswith(b"error: ") and b"hint: " in result.stderr and b"Traceback" not in result.stderr
