"""The contract between latent steps: profiles, recentring, what changed since the last step, maps of prompts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import picture, with_mask
from hypothesis import given
from hypothesis import strategies as st

from imgedit import calibration, codec, registry
from imgedit.backends.diffusion import _digests, _profile, _translation
from imgedit.backends.diffusion._profile import Profile
from imgedit.cli import main
from imgedit.errors import DataError, FileError, GateFailed, Unavailable, UsageError
from imgedit.jobs import Crop, Geometry, Sampling
from imgedit.models import pulling
from imgedit.ops import handoff, recenter, translate

FACTS: dict[str, Any] = {
    "model": "a",
    "revision": None,
    "vae": "AutoencoderKL",
    "vae_encoder": "sha256:1",
    "vae_decoder": "sha256:2",
    "channels": 4,
    "grid": 8,
    "native": 64,
    "encoders": [{"digest": "sha256:3", "tokens": 5, "width": 6}],
    "prediction": "epsilon",
    "scheduler": "PNDMScheduler",
}


class Fake:
    """Encodes by cell means, shifted as its model is called, and embeds prompts by seeded random numbers."""

    def __init__(self, facts: Mapping[str, Mapping[str, Any]] | None = None, shift: float = 0.0) -> None:
        self.known = facts or {"a": FACTS}
        self.shift = shift
        self.sizes: list[tuple[int, int]] = []
        self.loads: list[str] = []

    def geometry(self, sampling: Sampling) -> Geometry:
        return Geometry(self.known[sampling.model]["native"], 8, 8)

    def facts(self, sampling: Sampling) -> dict[str, Any]:
        return dict(self.known[sampling.model])

    def encode(self, sampling: Sampling, pixels: Any) -> Any:
        self.sizes.append(pixels.shape[:2])
        rows, columns = pixels.shape[0] // 8, pixels.shape[1] // 8
        cells = pixels.reshape(rows, 8, columns, 8, 3).mean(axis=(1, 3)) / 127.5 - 1
        return np.concatenate([cells, cells[..., :1] - cells[..., 1:2]], 2).transpose(2, 0, 1).astype("f4") + self.shift

    def embed(self, sampling: Sampling, prompts: Sequence[str]) -> list[Any]:
        if self.loads[-1:] != [sampling.model]:
            self.loads.append(sampling.model)
        meanings = np.stack(
            [np.random.default_rng(list(prompt.encode())).standard_normal((5, 6)) for prompt in prompts]
        )
        out, start = [], 0
        for encoder in self.known[sampling.model]["encoders"]:
            rng = np.random.default_rng(len(encoder["digest"]) + start)
            out.append((meanings @ rng.standard_normal((6, encoder["width"])) + start).astype("f4"))
            start += encoder["width"]
        return out


def profile(**changes: Any) -> Profile:
    measuring = calibration.Measuring(Fake(), Sampling("a"))
    for seed in range(12):
        measuring.add(picture("rgb8", 64, 128, seed=seed).pixels)
    return dataclasses.replace(measuring.profile(), **changes)


# statistics and moves


def test_moments_are_those_of_the_cells_that_are_not_masked() -> None:
    latents = np.random.default_rng(1).normal(3, 2, (4, 9, 7)).astype("f4")
    masked = np.zeros((9, 7), np.uint8)
    masked[2:5, 1:4] = 255
    found = recenter.moments(latents, masked)
    kept = latents.astype("f8")[:, masked == 0]
    assert found.cells == 63 - 9
    np.testing.assert_allclose(found.mean, kept.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, kept.std(axis=1), rtol=1e-12)
    hidden = latents.copy()
    hidden[:, masked > 0] = 1e6  # what the hole held is nothing
    np.testing.assert_array_equal(recenter.moments(hidden, masked).mean, found.mean)
    assert recenter.moments(latents, np.ones((9, 7), np.uint8)).cells == 0


def test_moments_of_crops_together_are_those_of_all_their_cells() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.normal(rng.normal(50, 3), 0.1 + i, (3, 8, 4 + i)) for i in range(6)]
    found = recenter.expected([recenter.moments(part) for part in parts])
    everything = np.concatenate([part.reshape(3, -1) for part in parts], axis=1)
    np.testing.assert_allclose(found.mean, everything.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, everything.std(axis=1), rtol=1e-12)
    far = [1.4826 * abs(part.reshape(3, -1).mean(axis=1) - found.mean) for part in parts]
    np.testing.assert_allclose(found.mean_spread, np.median(far, axis=0), rtol=1e-12)


@given(st.integers(0, 1000), st.floats(-50, 50), st.floats(0.05, 20), st.sampled_from(["f4", "f8"]))
def test_a_move_is_exact(seed: int, shift: float, scale: float, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    latents = (rng.standard_normal((4, 8, 8)) * scale + shift).astype(dtype)
    masked = (rng.random((8, 8)) < 0.4).astype(np.uint8)
    expect = recenter.Expected(rng.normal(0, 1, 4), rng.uniform(0.2, 2, 4), np.ones(4), np.ones(4))
    channels = np.array([True, True, False, True])
    moved = recenter.move(recenter.moments(latents, masked), expect, channels).apply(latents)
    assert moved.dtype == latents.dtype
    now = recenter.moments(moved, masked)
    assert abs(now.mean - expect.mean)[channels].max() < 1e-5
    assert abs(now.std - expect.std)[channels].max() < 1e-5
    np.testing.assert_array_equal(moved[2], latents[2])


def test_of_a_flat_channel_only_the_mean_moves() -> None:
    latents = np.random.default_rng(3).standard_normal((2, 8, 8))
    latents[0] = 7
    expect = recenter.Expected(np.zeros(2), np.ones(2), np.ones(2), np.ones(2))
    move = recenter.move(recenter.moments(latents), expect, np.array([True, True]))
    moved = move.apply(latents)
    assert not moved[0].any()
    assert moved[1].std() == pytest.approx(1)


def test_what_crops_do_by_themselves_is_within_the_tolerance_and_a_shift_is_not() -> None:
    rng = np.random.default_rng(4)
    crops = [recenter.moments(rng.normal(rng.normal(0, 0.3), 1, (1, 16, 16))) for _ in range(200)]
    expect = recenter.expected(crops)
    assert not any(recenter.beyond(crop, expect).any() for crop in crops)
    shifted = [crop._replace(mean=crop.mean + 4) for crop in crops]
    assert all(recenter.beyond(crop, expect).all() for crop in shifted)
    stretched = [crop._replace(std=crop.std * 3) for crop in crops]
    assert all(recenter.beyond(crop, expect).all() for crop in stretched)


# profiles


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = profile()
    assert made.pictures == 12 and made.crops == 24 and made.cells == 24 * 64
    path = tmp_path / "p.json"
    path.write_text(made.to_json())
    assert _profile.read(path) == made
    assert json.loads(path.read_text())["schema"] == "imgedit-profile/1"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "imgedit-profile/2"},
        {"extra": 1},
        {"mean": [0.0]},
        {"std": [0.0, 1.0, 1.0, 1.0]},
        {"std_spread": [-1.0, 1.0, 1.0, 1.0]},
        {"grid": "8"},
        {"vae": {"name": "x"}},
    ],
    ids=str,
)
def test_a_profile_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**json.loads(profile().to_json()), **change}))
    with pytest.raises(DataError) as refused:
        _profile.read(path)
    assert "p.json" in refused.value.message and "imgedit calibrate" in refused.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "imgedit-profile/1"}', "[" * 100000, "\xff"])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        _profile.read(path)
    with pytest.raises(FileError):
        _profile.read(tmp_path / "absent.json")


def test_a_profile_of_a_foreign_vae_is_refused_with_the_reason() -> None:
    made = profile()
    _profile.check(made, FACTS)
    _profile.check(made, {**FACTS, "vae_decoder": "sha256:tuned"})
    _profile.check(made, {**FACTS, "vae_encoder": "sha256:shifted"})
    for change, reason in (
        ({"vae_decoder": "sha256:8", "vae_encoder": "sha256:9"}, "other weights"),
        ({"channels": 16}, "4 latent channels, not 16"),
        ({"grid": 16}, "8 pixels per latent cell, not 16"),
    ):
        with pytest.raises(DataError, match="foreign VAE") as refused:
            _profile.check(made, {**FACTS, **change})
        assert reason in refused.value.message and refused.value.exit_code == 65


def latents(*, shift: float = 0.0, seed: int = 50) -> Any:
    return Fake(shift=shift).encode(Sampling("a"), picture("rgb8", 64, 64, seed=seed).pixels)


def test_latents_within_tolerance_are_left_alone() -> None:
    move, notes = _profile.reconcile(latents(), None, profile())
    assert move is None and notes["profile"] == "within tolerance" and notes["beyond"] == ()


def test_a_shifted_encoder_is_detected_moved_back_and_recorded() -> None:
    masked = np.zeros((8, 8), np.uint8)
    masked[:3, :3] = 255
    expect, given = profile(), latents(shift=6)
    move, notes = _profile.reconcile(given, masked, expect)
    assert move is not None and notes["profile"] == "moved" and notes["beyond"] == (0, 1, 2, 3)
    now = recenter.moments(move.apply(given), masked)
    assert abs(now.mean - expect.mean).max() < 1e-5 and abs(now.std - expect.std).max() < 1e-5
    assert notes["cells"] == 55
    np.testing.assert_allclose(notes["scale"], move.scale, atol=1e-6)
    np.testing.assert_allclose(notes["shift"], move.shift, atol=1e-6)
    json.dumps(notes)


def test_each_mode_does_what_it_says() -> None:
    expect, far, near = profile(), latents(shift=6), latents()
    assert _profile.reconcile(far, None, expect, mode="off")[0] is None
    assert _profile.reconcile(far, None, expect, mode="off")[1]["profile"] == "not moved"
    assert _profile.reconcile(far, None, None)[1].keys() == {"cells", "mean", "std"}
    always, _ = _profile.reconcile(near, None, expect, mode="on")
    assert always is not None
    np.testing.assert_allclose(recenter.moments(always.apply(near)).mean, expect.mean, atol=1e-5)
    _profile.reconcile(near, None, expect, strict=True)
    # without --strict each mode does what the refusal says of it
    for mode, then in (("auto", "they are moved"), ("on", "they are moved"), ("off", "they stay")):
        with pytest.raises(GateFailed, match="channel 0") as error:
            _profile.reconcile(far, None, expect, mode=mode, strict=True)
        assert f"leave out --strict: then {then}" in error.value.hint
        assert (_profile.reconcile(far, None, expect, mode=mode)[0] is None) == (mode == "off")


def test_only_the_channels_that_are_beyond_are_moved_by_auto() -> None:
    given = latents()
    given[2] += 6
    move, notes = _profile.reconcile(given, None, profile())
    assert move is not None and notes["beyond"] == (2,)
    np.testing.assert_array_equal(move.apply(given)[[0, 1, 3]], given[[0, 1, 3]])


def test_too_few_cells_are_not_judged_and_no_number_is_refused() -> None:
    masked = np.full((8, 8), 255, np.uint8)
    masked[0] = 0
    move, notes = _profile.reconcile(latents(shift=9), masked, profile(), strict=True)
    assert move is None and "too few" in notes["profile"]
    given = latents()
    given[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="not numbers"):
        _profile.reconcile(given, None, profile())


# measuring


def test_large_pictures_are_measured_by_crops_of_native_size() -> None:
    fake = Fake()
    measuring = calibration.Measuring(fake, Sampling("a"))
    for size, count in (((64, 64), 1), ((63, 200), 3), ((1000, 130), 8), ((999, 1001), 16)):
        fake.sizes.clear()
        measuring.add(picture("rgb8", *size).pixels)
        assert len(fake.sizes) == count
        assert set(fake.sizes) == {(min(64, size[0] // 8 * 8), 64)}
    with pytest.raises(DataError, match="too small"):
        measuring.add(picture("rgb8", 7, 100).pixels)


def test_nothing_and_flat_pictures_give_no_profile() -> None:
    measuring = calibration.Measuring(Fake(), Sampling("a"))
    with pytest.raises(DataError, match="no picture"):
        measuring.profile()
    measuring.add(np.full((64, 64, 3), 9, np.uint8))
    with pytest.raises(DataError, match="does not vary"):
        measuring.profile()


# between two latent steps

TERMS = handoff.terms(FACTS, guidance_scale=7.5, scheduler="ddim")
CHANGES = [
    ("IL201", {"vae_encoder": "sha256:8", "vae_decoder": "sha256:9"}, {}),
    ("IL201", {"channels": 16}, {}),
    ("IL202", {"grid": 16}, {}),
    ("IL203", {}, {"guidance_scale": 9.0}),
    ("IL203", {}, {"guidance_scale": 0.0}),
    ("IL204", {}, {"scheduler": "euler-ancestral"}),
    ("IL204", {}, {"scheduler": "ddim:30,ddpm:20"}),
    ("IL205", {"prediction": "v_prediction"}, {}),
    ("IL206", {"encoders": [{"digest": "x", "tokens": 77, "width": 6}]}, {}),
]


@pytest.mark.parametrize(("code", "facts", "sampling"), CHANGES)
def test_what_changed_since_the_last_latent_step_is_said(code: str, facts: Any, sampling: Any) -> None:
    given = {"guidance_scale": 7.5, "scheduler": "ddim", **sampling}
    now = handoff.terms({**FACTS, **facts}, **given)
    for last, this in ((TERMS, now), (now, TERMS)):
        found = handoff.changed(last, this)
        assert [each.code for each in found] == [code]
        assert "{" not in found[0].message + found[0].hint
        refused = handoff.refusal(found)
        assert (refused is not None) == (found[0].severity == "warning")


def test_what_stayed_is_not_said() -> None:
    assert handoff.changed(None, TERMS) == [] == handoff.changed(TERMS, dict(TERMS))
    near = handoff.terms({**FACTS, "vae_decoder": "tuned"}, guidance_scale=8, scheduler="euler:20,heun:5")
    assert handoff.changed(TERMS, near) == [] and handoff.refusal([]) is None
    assert handoff.changed(TERMS, handoff.terms({"model": "x"}, guidance_scale=7.5, scheduler="ddim")) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(TERMS)), _JSON))
def test_terms_out_of_a_sidecar_are_data_from_anywhere(last: dict[str, Any]) -> None:
    for found in handoff.changed({**TERMS, **last}, TERMS) + handoff.changed(last, TERMS):
        assert len(found.message) < 600


def test_what_the_profile_said_of_crops_becomes_findings() -> None:
    moved = {"profile": "moved", "beyond": (1,), "usual_guidance": (0.0, 2.0)}
    left = {"profile": "not moved", "beyond": (0, 2)}
    found = handoff.measured([moved, {**moved, "beyond": (3,)}, left, {"cells": 3}], 7.5)
    assert [each.code for each in found] == ["IL211", "IL212", "IL213"]
    assert "channels 1, 3" in found[0].message and "channels 0, 2" in found[1].message
    assert handoff.measured([{"beyond": (), "usual_guidance": (1.0, 20.0)}], 7.5) == []


def test_every_code_is_explained() -> None:
    for code in handoff.CODES:
        assert handoff.CODES[code].title in handoff.explain(code) and code in handoff.explain("")
    with pytest.raises(UsageError, match="inpaint has no code") as error:
        handoff.explain("IL299")
    assert "IL2" in error.value.hint
    with pytest.raises(UsageError, match="inpaint has no code") as error:
        handoff.explain("ie101")
    assert error.value.hint == "imgedit preflight --explain ie101"


# maps between encoders


def pairs(n: int, noise: float, *, widths: tuple[int, int] = (24, 30), offset: float = 0.0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(5)
    weights = rng.standard_normal(widths) / np.sqrt(widths[0])
    x = rng.standard_normal((n, 7, widths[0])) + rng.standard_normal((7, widths[0])) + offset
    y = x @ weights + rng.standard_normal((7, widths[1])) + noise * rng.standard_normal((n, 7, widths[1]))
    return x.astype("f4"), y.astype("f4"), weights


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 0.5])
def test_a_linear_map_is_found_to_within_the_noise(noise: float) -> None:
    x, y, weights = pairs(300, noise)
    found, report = translate.fit([(x, y)])
    assert report.helps and not report.same and report.unmapped is None
    assert (report.prompts, report.held_out) == (300, 60)
    rows, width = 240 * 7, x.shape[2]
    # what is left is the noise itself, and that of the weights: width numbers fitted on so many rows
    assert report.noise == pytest.approx(noise * np.sqrt(1 + width / rows), rel=0.05, abs=1e-6)
    assert abs(found.weights - weights).max() < 5 * noise / np.sqrt(300 * 7) + 1e-6
    fresh, wanted = pairs(300, 0.0)[:2]
    assert np.sqrt(np.mean((found.apply(fresh) - wanted) ** 2)) < 0.3 * noise + 1e-5


def test_of_unrelated_encoders_the_report_says_that_a_map_does_not_help() -> None:
    rng = np.random.default_rng(6)
    for n in (12, 40, 400):
        x, y = rng.standard_normal((2, n, 7, 24)) + 3
        found, report = translate.fit([(x, y)])
        assert not report.helps and not report.same
        assert report.error == pytest.approx(1, abs=0.1) and report.unmapped == pytest.approx(1.41, abs=0.15)
        assert abs(found.apply(x) - y.mean(axis=0)).max() < 0.5  # it falls back on the mean


def test_the_same_encoder_needs_no_map() -> None:
    x = pairs(30, 0.0)[0]
    assert translate.fit([(x, x)])[1].same
    assert not translate.fit([(x, x)])[1].helps


def test_the_map_is_the_ridge_regression_that_it_says_it_is() -> None:
    x, y, _ = pairs(60, 0.3, offset=2)
    found, report = translate.fit([(x, y)])
    a, b = (side.astype("f8") for side in (x, y))

    def ridge(some: Any) -> Any:
        gram = centred(a, some).T @ centred(a, some)
        strength = report.penalty * np.trace(gram) / len(gram)
        return np.linalg.solve(gram + strength * np.eye(len(gram)), centred(a, some).T @ centred(b, some))

    def centred(side: Any, some: Any) -> Any:
        return (side[some] - side[some].mean(axis=0)).reshape(-1, side.shape[2])

    np.testing.assert_allclose(found.weights, ridge(np.arange(60)), atol=1e-5)
    out = np.arange(60) % 5 == 4
    missed = (b[out] - b[~out].mean(axis=0)) - (a[out] - a[~out].mean(axis=0)) @ ridge(~out)
    spread = b[out] - b[~out].mean(axis=0)
    assert report.error == pytest.approx(np.sqrt((missed**2).sum() / (spread**2).sum()), rel=1e-6)


def test_batches_and_large_constant_numbers_change_nothing() -> None:
    x, y, _ = pairs(50, 0.1)
    whole, first = translate.fit([(x, y)])
    parts, second = translate.fit((x[i : i + 7], y[i : i + 7]) for i in range(0, 50, 7))
    np.testing.assert_allclose(whole.weights, parts.weights, atol=1e-6)
    assert second.error == pytest.approx(first.error, rel=1e-9)
    wide = x.astype("f8") + 1e6
    assert translate.fit([(wide, y)])[1].error == pytest.approx(first.error, rel=1e-6)


def test_what_cannot_be_paired_is_refused() -> None:
    x, y, _ = pairs(20, 0.1)
    for batches, reason in (
        ([], "too few"),
        ([(x[:9], y[:9])], "too few"),
        ([(x, y[:, :6])], "cannot be paired"),
        ([(x, np.full_like(y, np.nan))], "not numbers"),
    ):
        with pytest.raises(DataError, match=reason):
            translate.fit(batches)
    with pytest.raises(DataError, match="takes 7 tokens of 24"):
        translate.fit([(x, y)])[0].apply(y)


B = {**FACTS, "model": "b", "encoders": [{"digest": f"sha256:{i}", "tokens": 5, "width": 7 + i} for i in (1, 2)]}
COLOURS, THINGS = ("red", "green", "blue", "grey"), ("wall", "sea", "sky", "stone")
WORDS = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]


def made(prompts: Sequence[str] = WORDS) -> tuple[Fake, _translation.Translation]:
    fake = Fake({"a": FACTS, "b": B})
    return fake, calibration.translation(fake, Sampling("a"), Sampling("b"), prompts)


def test_a_map_leads_from_one_encoder_to_two_and_each_model_is_loaded_once() -> None:
    fake, found = made([*WORDS, WORDS[0], "", f"  {WORDS[1]} "])
    assert fake.loads == ["a", "b"]
    assert found.report.prompts == 16 and found.report.error < 1e-4 and found.report.helps
    for now, own in zip(found.apply(fake.embed(Sampling("a"), ["new"])), fake.embed(Sampling("b"), ["new"])):
        assert now.shape == own.shape and now.dtype == np.float32
        np.testing.assert_allclose(now, own, atol=1e-3)
    with pytest.raises(DataError, match="2 different prompts"):
        made(["x", "y", "x "])


def test_prompts_go_through_the_map_that_a_file_holds(tmp_path: Path) -> None:
    fake, found = made()
    path = tmp_path / "map.safetensors"
    path.write_bytes(found.to_bytes())
    assert path.read_bytes() == made()[1].to_bytes()
    read = _translation.read(path)
    assert (read.source, read.target, read.report) == (found.source, found.target, found.report)
    sampling = Sampling("b", consistency=str(path))
    for now, own in zip(_translation.embed(fake, sampling, ["sea"]), fake.embed(Sampling("b"), ["sea"])):
        np.testing.assert_allclose(now, own, atol=1e-3)
    with pytest.raises(DataError, match="made for the text encoders of 'b'"):
        _translation.embed(fake, Sampling("a", consistency=str(path)), ["sea"])
    other = [{"digest": "sha256:x", "tokens": 5, "width": 6}]
    with pytest.raises(DataError, match="made from the text encoders of 'a'"):
        _translation.embed(Fake({"a": {**FACTS, "encoders": other}, "b": B}), sampling, ["sea"])


def test_no_model_is_fetched_because_a_map_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pulling, "pull", lambda *_, **__: pytest.fail("a model was pulled"))
    fake, found = made()
    found = dataclasses.replace(found, source=dataclasses.replace(found.source, model="owner/name"))
    path = tmp_path / "map.safetensors"
    path.write_bytes(found.to_bytes())
    with pytest.raises(Unavailable, match="is not fetched because a file names it") as error:
        _translation.embed(fake, Sampling("b", consistency=str(path)), ["sea"])
    assert "imgedit models pull owner/name" in error.value.hint


def test_a_file_that_is_no_map_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    path = tmp_path / "map.safetensors"
    whole = made()[1].to_bytes()
    tensors = load(whole)
    with_other = {**tensors, "weights": tensors["weights"][:, :3].copy()}
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]["imgedit"]
    about = json.loads(header)

    def other(**changes: Any) -> dict[str, str]:
        return {"imgedit": json.dumps({**about, **changes})}

    for data in (
        b"",
        whole[:200],
        whole[:-4],
        save(tensors),
        save(tensors, {"imgedit": "["}),
        save(tensors, {"imgedit": "[]"}),
        save(tensors, other(schema="imgedit-map/9")),
        save(with_other, other()),
        save({**tensors, "weights": tensors["weights"] * np.float32(np.nan)}, other()),
        save({name: tensors[name] for name in ("weights", "source_mean")}, other()),
        save(tensors, other(source={})),
        save(tensors, other(target=None)),
        save(tensors, other(report={})),
        save(tensors, other(report={**about["report"], "error": "0"})),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"map\.safetensors"):
            _translation.read(path)
    with pytest.raises(FileError):
        _translation.read(tmp_path / "absent")


class Unrelated(Fake):
    """Its second model understands something else of each prompt."""

    def embed(self, sampling: Sampling, prompts: Sequence[str]) -> list[Any]:
        return super().embed(sampling, prompts if sampling.model == "a" else [prompt[::-1] for prompt in prompts])


def test_the_command_says_plainly_that_a_map_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "backend", lambda kind, name: Unrelated({"a": FACTS, "b": B}))
    (tmp_path / "prompts.txt").write_text("\n".join(f"{word} {number}" for word in WORDS for number in range(20)))
    output = tmp_path / "map.safetensors"
    command = ["calibrate-prompts", "--from", "a", "--to", "b", str(tmp_path / "prompts.txt"), "-o", str(output)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "it does not help" in said.out and "–, the widths differ" in said.out
    assert "warning: the map does not help" in said.err
    report = _translation.read(output).report
    assert report.prompts == 320 and report.error == pytest.approx(1, abs=0.05)


# with real models, small ones


def test_digests_are_of_the_weights_and_not_of_the_file(small_models: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    for kind in ("sd-inpaint", "xl"):
        folder = small_models / kind
        files = {part.name: tuple(part.glob("*.safetensors")) for part in folder.iterdir() if part.is_dir()}
        of_folder = _digests.parts(files)
        of_file = _digests.parts({"": (folder.with_suffix(".safetensors"),)})
        assert of_folder.keys() == of_file.keys() >= {"vae_encoder", "vae_decoder", "text_encoder"}
        assert len(set(of_folder.values())) == len(of_folder)
        same = of_folder.keys() - {"text_encoder_2"}  # OpenCLIP is laid out differently in single files
        assert {part: of_folder[part] for part in same} == {part: of_file[part] for part in same}
        tensors = load_file(files["vae"][0])
        half = tmp_path / f"{kind}.fp16.safetensors"
        save_file({name: value.astype("f2") for name, value in tensors.items()}, half)
        assert _digests.parts({"vae": (half,)}) == {part: of_folder[part] for part in ("vae_encoder", "vae_decoder")}
        tensors["decoder.conv_out.bias"] += np.float32(0.1)
        save_file(tensors, half)
        changed = _digests.parts({"vae": (half,)})
        assert [changed[part] == of_folder[part] for part in ("vae_encoder", "vae_decoder")] == [True, False]
        half.write_bytes(half.read_bytes()[:-9])
        with pytest.raises(DataError, match="is damaged"):
            _digests.parts({"vae": (half,)})


def changed_copy(small_models: Path, kind: str, to: Path, file: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a small model and change tensors of one of its files."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(small_models / kind, to)
    tensors = load_file(to / file)
    change(tensors)
    save_file(tensors, to / file)
    return to


@pytest.fixture(scope="module")
def shifted(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose encoder adds a constant to each latent channel; its decoder is that of the first."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["quant_conv.bias"][:4] += np.array([1, -1, 2, 0.5], np.float32)  # the first half is the mean

    to = tmp_path_factory.mktemp("shifted") / "shifted"
    return changed_copy(small_models, "sd-inpaint", to, "vae/diffusion_pytorch_model.safetensors", change)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(12):
        kind = ("rgb8", "grey8", "rgb16", "rgba8")[seed % 4]
        codec.write_file(picture(kind, 64 + 5 * seed, 72, seed=seed), folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def measured(small_models: Path, pictures: Path) -> Path:
    path = pictures.parent / "measured.json"
    assert main(["calibrate", str(small_models / "sd-inpaint"), str(pictures), "-o", str(path)]) == 0
    return path


def sampling(model: Path, **options: Any) -> Sampling:
    return Sampling(str(model), **{"prompt": "a brick wall", "steps": 2, "latents": "mean", **options})


def crop(seed: int = 60) -> Crop:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 24:40] = 255
    return Crop(picture("rgb8", 64, 64, seed=seed).pixels, mask, seed=1)


def test_a_profile_is_measured_as_the_model_encodes(small_models: Path, pictures: Path, measured: Path) -> None:
    backend = registry.backend("diffusion", "diffusers")
    found = _profile.read(measured)
    facts = backend.facts(sampling(small_models / "sd-inpaint"))
    _profile.check(found, facts)
    assert (found.pictures, found.model, found.grid, found.native) == (12, "sd-inpaint", 8, 64)
    assert found.encoders[0].tokens == 77 and found.prediction == "epsilon" and found.scheduler == "PNDMScheduler"
    crops = []
    for path in sorted(pictures.glob("?.png")) + sorted(pictures.glob("??.png")):
        whole = codec.read_file(path).pixels  # less than two crops along either side: one, from the start
        crops.append(backend.encode(sampling(small_models / "sd-inpaint"), np.ascontiguousarray(whole[:64, :64])))
    np.testing.assert_allclose(found.mean, np.mean(crops, axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(found.std, np.std(crops, axis=(0, 2, 3)), atol=1e-6)


def test_encoding_loads_the_vae_alone(small_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    pixels, model = crop().pixels, sampling(small_models / "sd-inpaint")
    alone = registry.backend_class("diffusion", "diffusers")()
    with monkeypatch.context() as patch:
        patch.setattr(diffusers.UNet2DConditionModel, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
        first = alone.encode(model, pixels)
        assert np.array_equal(alone.encode(model, pixels), first)
    alone.synthesize(model, [crop()])
    assert not alone._encoders and np.array_equal(alone.encode(model, pixels), first)


def test_a_model_with_a_shifted_encoder_is_put_right(small_models: Path, shifted: Path, measured: Path) -> None:
    backend = registry.backend("diffusion", "diffusers")
    expect = _profile.read(measured)
    latents = backend.encode(sampling(shifted), crop().pixels)
    move, _ = _profile.reconcile(latents, None, expect)
    assert move is not None
    now = recenter.moments(move.apply(latents))
    assert abs(now.mean - expect.mean).max() < 1e-5 and abs(now.std - expect.std).max() < 1e-5

    plain = sampling(small_models / "sd-inpaint", profile=str(measured))
    wrong = sampling(shifted, profile=str(measured))
    right = backend.synthesize(plain, [crop()])[0]
    assert right.notes["latents"]["profile"] == "within tolerance"
    notes = backend.synthesize(wrong, [crop()])[0].notes["latents"]
    assert notes["profile"] == "moved" and notes["beyond"] == (0, 1, 2, 3)
    # moved always, both encoders give the same picture: the shift is undone in all that is encoded
    always = [backend.synthesize(dataclasses.replace(one, recenter="on"), [crop()])[0] for one in (plain, wrong)]
    np.testing.assert_allclose(always[0].pixels, always[1].pixels, atol=1e-4)
    never = backend.synthesize(dataclasses.replace(wrong, recenter="off"), [crop()])[0]
    assert abs(never.pixels - right.pixels).max() > 1e-2
    with pytest.raises(GateFailed, match="beyond the tolerance"):
        backend.synthesize(dataclasses.replace(wrong, strict=True), [crop()])


def test_the_command_says_what_was_done_about_a_shifted_encoder(
    shifted: Path, small_models: Path, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec.write_file(with_mask(picture("rgb8", 64, 64, seed=60)), tmp_path / "in.png")
    options = [
        "--prompt",
        "grass",
        "--steps",
        "1",
        "--profile",
        str(measured),
        "--force",
        "-o",
        str(tmp_path / "out.png"),
    ]
    command = ["inpaint", str(tmp_path / "in.png"), *options]
    assert main([*command, "--model", str(shifted)]) == 0
    sidecar = codec.read_file(tmp_path / "out.png").sidecar
    assert "IL211" in [finding.code for finding in sidecar.findings]
    assert sidecar.steps[-1].outside == {"outside_changed": 0, "outside_max": 0}
    assert sidecar.steps[-1].params["profile"]["digest"].startswith("sha256:")
    assert str(measured) not in sidecar.to_json()
    capsys.readouterr()
    assert main([*command, "--model", str(shifted), "--strict"]) == 1
    assert "beyond the tolerance" in capsys.readouterr().err
    assert main([*command, "--model", str(small_models / "sd2")]) == 65
    said = capsys.readouterr().err
    assert "foreign VAE" in said and "hint: measure this model" in said
    assert main(["inpaint", str(tmp_path / "in.png"), "--recenter", "on", "--force", "--model", str(shifted)]) == 2
    assert "--profile FILE" in capsys.readouterr().err
    # a further step with another model, guidance and sampler
    again = [*command, "--model", str(small_models / "sd2"), "--guidance-scale", "3", "--scheduler", "ddpm"]
    again[1] = str(tmp_path / "out.png")
    again[again.index("--profile") : again.index("--profile") + 2] = []
    again[again.index("-o") + 1] = str(tmp_path / "third.png")
    assert main(again) == 0
    found = {finding.code for finding in codec.read_file(tmp_path / "third.png").sidecar.findings}
    assert found >= {"IL201", "IL203", "IL204", "IL205", "IL206"}
    capsys.readouterr()
    assert main([*again, "--strict"]) == 1
    assert "IL201" in capsys.readouterr().err


@pytest.fixture(scope="module")
def related(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose text encoder gives what the first one's does, each number times and plus another."""

    def change(tensors: dict[str, Any]) -> None:
        rng = np.random.default_rng(7)
        for name in tensors:
            if "final_layer_norm" in name:
                tensors[name] += rng.uniform(0.2, 1, tensors[name].shape).astype(np.float32)

    to = tmp_path_factory.mktemp("related") / "related"
    return changed_copy(small_models, "sd-inpaint", to, "text_encoder/model.safetensors", change)


def test_prompts_for_one_model_mean_the_same_to_another(
    small_models: Path, related: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, path = tmp_path / "prompts.txt", tmp_path / "map.safetensors"
    prompts.write_text("\n".join(f"{first} {word}" for first in ("old", "new", "a photo of") for word in WORDS))
    first, second = str(small_models / "sd-inpaint"), str(related)
    fit = ["calibrate-prompts", "--from", first, "--to", second, str(prompts), "-o", str(path)]
    assert main([*fit, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["prompts"] == 48 and report["helps"] and report["error"] < 1e-3 < report["unmapped"]
    assert _translation.read(path).source.model == "sd-inpaint" and str(small_models).encode() not in path.read_bytes()
    backend = registry.backend("diffusion", "diffusers")
    through = sampling(related, consistency=str(path), guidance_scale=9)
    with pytest.raises(Unavailable, match="the map needs the model that it leads from") as error:
        _translation.embed(backend, through, ["grass"])
    assert error.value.hint == "put sd-inpaint beside the map, or a link to it"
    (tmp_path / "sd-inpaint").symlink_to(small_models / "sd-inpaint")
    for now, own in zip(_translation.embed(backend, through, ["grass"]), backend.embed(sampling(related), ["grass"])):
        np.testing.assert_allclose(now, own, atol=5e-3)
    mapped, plain = (
        backend.synthesize(one, [crop()])[0].pixels for one in (through, dataclasses.replace(through, consistency=None))
    )
    np.testing.assert_allclose(mapped, plain, atol=5e-3)
    with pytest.raises(DataError, match="made for the text encoders"):
        backend.synthesize(sampling(small_models / "sd", consistency=str(path)), [crop()])
    assert main(fit) == 0
    said = capsys.readouterr()
    assert "it helps on these, and 48 prompts are too few to say more" in said.out and "eigenvalue" in said.out
    assert main([*fit[:4], first, *fit[5:]]) == 0
    said = capsys.readouterr()
    assert "no map is needed" in said.out and "warning: " in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["calibrate", "MODEL", "absent.png"], 74, "absent.png does not exist"),
        (["calibrate", "./absent", "PICTURE"], 69, "no model"),
        (["calibrate", "MODEL", "PICTURE", "-o", "absent/p.json"], 74, "absent"),
        (["calibrate", "MODEL", "SMALL"], 65, "too small"),
        (["calibrate", "MODEL", "PICTURE", "--dtype", "float7"], 2, "no dtype"),
        (["calibrate-prompts", "--from", "MODEL", "--to", "MODEL", "absent.txt", "-o", "m"], 74, "absent.txt does not"),
        (["calibrate-prompts", "--from", "MODEL", "--to", "MODEL", "FEW", "-o", "m"], 65, "2 different prompts"),
        (["calibrate-prompts", "--from", "MODEL", "--to", "MODEL", "PICTURE", "-o", "m"], 65, "no UTF-8"),
        (["calibrate-prompts", "--from", "MODEL", "--to", "MODEL", "FEW", "-o", "-"], 2, "standard output"),
        (["calibrate-prompts", "--from", "MODEL", "FEW", "-o", "m"], 2, "--to"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line_with_a_hint(
    small_models: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    codec.write_file(picture("rgb8", 7, 70), tmp_path / "small.png")
    (tmp_path / "few.txt").write_text("one\ntwo\none\n")
    named = {
        "MODEL": small_models / "sd-inpaint",
        "PICTURE": pictures / "0.png",
        "SMALL": "small.png",
        "FEW": "few.txt",
    }
    assert main([str(named.get(argument, argument)) for argument in arguments]) == code
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and said.count("hint: ") == 1 and reason in said
    assert "Traceback" not in said and not list(tmp_path.glob("[mp]*"))


def test_pictures_that_fail_are_left_out_where_asked(
    small_models: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    command = ["calibrate", str(small_models / "sd-inpaint"), str(tmp_path / "broken.png"), str(pictures / "1.png")]
    assert main(command) == 65
    capsys.readouterr()
    assert main([*command, "--keep-going"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["pictures"] == 1
    assert "1 of 2 pictures failed" in said.err and "warning: pictures measured: 1" in said.err
