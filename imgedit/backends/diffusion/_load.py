"""Loads the parts of a Stable Diffusion model, 1, 2 or XL, by diffusers' and transformers' own classes for each.

The pipeline classes are not imported: they bring in several times as much, and take seconds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgedit.backends.diffusion import _economy, _layout
from imgedit.backends.diffusion._layout import Layout
from imgedit.backends.diffusion._memory import Plan
from imgedit.backends.memory import is_lack
from imgedit.errors import DataError, Unavailable, UsageError
from imgedit.models import kinds, packages, weights

log = logging.getLogger("imgedit")

DTYPES = ("float32", "float16", "bfloat16")
_CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


@dataclass(slots=True, eq=False)
class Loaded:
    """A model in memory. *encoders*: each text encoder with its tokenizer. *memory*: what was computed once.

    *economy*: what was done so that it takes less memory, in this order: tiled, sliced, parked, streamed.
    """

    layout: Layout
    device: str
    dtype: Any
    unet: Any
    vae: Any
    encoders: list[tuple[Any, Any]]
    memory: dict[str, dict[Any, Any]] = field(default_factory=dict)
    economy: list[str] = field(default_factory=list)

    @property
    def xl(self) -> bool:
        return self.layout.family == _layout.XL

    @property
    def vae_dtype(self) -> Any:
        """What the VAE computes in: some overflow in float16, and say so in their configuration."""
        import torch

        return torch.float32 if wide_vae(self.layout, self.dtype) else self.dtype

    def once(self, what: str, key: Any, make: Callable[[], Any], most: int) -> Any:
        """Return what *make* returned for *key* the first time; the last *most* of each kind are kept."""
        kept = self.memory.setdefault(what, {})
        return kept[key] if key in kept else self.keep(what, key, make(), most)

    def keep(self, what: str, key: Any, made: Any, most: int) -> Any:
        """Return *made*, and keep it with the last *most* of its kind."""
        kept = self.memory.setdefault(what, {})
        while len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = made
        return made

    def shrink(self) -> bool:
        """Take less memory and more time from now on; False where no more can be done."""
        measures = ("tiled", "sliced", *(("parked", "streamed") if self.device.startswith("cuda") else ()))
        left = [measure for measure in measures if measure not in self.economy]
        for measure in left[:1]:
            self.save(measure)
        return bool(left)

    def save(self, measure: str) -> None:
        """Take one measure: the VAE tiled, attention sliced, parts parked in main memory, the UNet streamed from it."""
        if measure == "tiled":
            _economy.tile(self.vae)
        elif measure == "sliced":
            _economy.slice_attention(self.unet)
        elif measure == "parked":
            _economy.park([*(encoder for encoder, _ in self.encoders), self.unet, self.vae], self.device)
        else:
            _economy.stream(self.unet, self.device)
        self.economy.append(measure)


def wide_vae(layout: Layout, dtype: Any) -> bool:
    """Say whether the VAE computes in single precision while all else computes in *dtype*."""
    import torch

    runs_over = layout.family == _layout.XL or layout.located.task == kinds.UPSCALE
    return runs_over and dtype == torch.float16 and layout.config("vae").get("force_upcast", True)


def device_of(wanted: str) -> str:
    """Return torch's name of the device to use. Raises UsageError for none, Unavailable where it is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except (RuntimeError, ValueError):
        raise UsageError(f"{wanted!r:.40} is no device", "--device auto, cpu, cuda, cuda:1 or mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(kind, False)
    if there and wanted.startswith("cuda:"):
        there = (torch.device(wanted).index or 0) < torch.cuda.device_count()
    if not there:
        raise Unavailable(f"the device {wanted!r} is not available here", "--device auto takes what there is")
    return wanted


def dtype_of(wanted: str, device: str) -> Any:
    """Return torch's dtype: on CUDA half precision where nothing else is asked for, else single."""
    import torch

    if wanted not in (*DTYPES, "auto"):
        raise UsageError(f"{wanted!r:.40} is no dtype", "--dtype auto, float32, float16 or bfloat16")
    chosen = wanted if wanted != "auto" else "float16" if device.startswith("cuda") else "float32"
    if chosen == "float16" and device == "cpu":
        raise UsageError("float16 is not computed in on a CPU", "--dtype bfloat16, float32 or auto")
    return getattr(torch, chosen)


def load(layout: Layout, device: str, dtype: Any, plan: Plan) -> Loaded:
    """Return the model in memory, on *device* as *plan* says.

    Raises DataError where its files do not hold what they must.
    """
    quiet()
    with _said(layout):
        parts = _parts(layout, ("unet", "vae", *layout.encoders), "cpu" if plan.offload else device, dtype)
        encoders = [(parts[name], _tokenizer(layout, name)) for name in layout.encoders]
    loaded = Loaded(layout, device, dtype, parts["unet"], parts["vae"], encoders)
    loaded.vae.to(dtype=loaded.vae_dtype)
    planned = {"tiled": plan.vae_tiling, "sliced": plan.attention_slicing, "parked": plan.offload}
    for measure in (measure for measure, wanted in planned.items() if wanted):
        loaded.save(measure)
    return loaded


def texts(layout: Layout, device: str, dtype: Any) -> list[tuple[Any, Any]]:
    """Return the text encoders of a model, each with its tokenizer, and nothing else of it; errors as in ``load``."""
    quiet()
    with _said(layout):
        parts = _parts(layout, layout.encoders, device, dtype)
        return [(parts[name], _tokenizer(layout, name)) for name in layout.encoders]


def eyes(layout: Layout, device: str, dtype: Any) -> Loaded:
    """Return a model of which only the VAE is in memory: it can encode, and nothing else; errors as in ``load``."""
    quiet()
    with _said(layout):
        vae = _parts(layout, ("vae",), device, dtype)["vae"]
    loaded = Loaded(layout, device, dtype, None, vae, [])
    vae.to(dtype=loaded.vae_dtype)
    return loaded


def _parts(layout: Layout, names: Sequence[str], device: str, dtype: Any) -> dict[str, Any]:
    parts = (_from_file if layout.located.single else _from_folder)(layout, names, dtype)
    for part in parts.values():
        part.requires_grad_(False).eval()
        part.to(device=device, dtype=dtype)
    return parts


def quiet() -> None:
    """Keep diffusers and transformers from writing to the terminal; what matters is raised or noted."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for package in (diffusers.utils.logging, transformers.utils.logging):
        package.set_verbosity_error()
        package.disable_progress_bar()


def _from_folder(layout: Layout, names: Sequence[str], dtype: Any) -> dict[str, Any]:
    import diffusers
    import transformers

    found = {}
    for name in names:
        package: Any = transformers if name in _CLASSES else diffusers
        loader = getattr(package, _CLASSES.get(name) or layout.config(name)["_class_name"])
        # transformers loads in the dtype of the file or in single precision, and is moved to the right one after
        options = {} if name in _CLASSES else {"torch_dtype": dtype}
        part, said = loader.from_pretrained(
            layout.located.path / name,
            variant=layout.located.variant(name),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
        _complete(name, said["missing_keys"])
        found[name] = part
    return found


def _from_file(layout: Layout, names: Sequence[str], dtype: Any) -> dict[str, Any]:
    import diffusers
    import transformers
    from diffusers.loaders import single_file_utils
    from safetensors.torch import load_file

    encoder_of: Any = single_file_utils.create_diffusers_clip_model_from_ldm
    tensors = load_file(layout.located.path)
    options: dict[str, Any] = {"config": str(layout.configs), "local_files_only": True, "torch_dtype": dtype}
    found = {}
    for name in names:
        if name in _CLASSES:
            loader = getattr(transformers, _CLASSES[name])
            found[name] = encoder_of(loader, dict(tensors), subfolder=name, **options)
        else:
            loader = getattr(diffusers, layout.config(name)["_class_name"])
            found[name] = loader.from_single_file(dict(tensors), subfolder=name, **options)
    for name, part in found.items():
        _complete(name, [key for key, value in part.named_parameters() if value.is_meta])
    return found


def _complete(name: str, lacking: Any) -> None:
    # position ids are counted, not learned; old files hold them, new ones do not
    left = sorted(key for key in lacking if not str(key).endswith("position_ids"))
    if left:
        raise DataError(f"the weights of {name} lack {len(left)} tensors, such as {left[0]}", weights.AGAIN)


def _tokenizer(layout: Layout, encoder: str) -> Any:
    from transformers import CLIPTokenizer

    folder = layout.configs / encoder.replace("text_encoder", "tokenizer")
    if not (folder / "vocab.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise DataError(f"the model has no {folder.name}: vocab.json is missing", weights.AGAIN)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


@contextlib.contextmanager
def _said(layout: Layout) -> Iterator[None]:
    """Turn what the loaders raise for files that do not fit each other into one error of ours."""
    from safetensors import SafetensorError

    try:
        with packages.importing("diffusers"):
            yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if is_lack(error):
            raise
        reason = " ".join(str(error).split())
        if "meta tensor" in reason:  # what no file gave weights to has none
            reason = "some of its tensors are missing"
        name = Path(layout.located.name).name
        raise DataError(f"{name} could not be loaded: {reason:.200}", weights.AGAIN) from error
