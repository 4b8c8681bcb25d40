"""What a model's configuration says of it before any weights are read: its family, its sizes, its sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from imgedit import models
from imgedit.errors import DataError, Unavailable
from imgedit.models import hub, kinds, packages, settings, weights
from imgedit.models.locating import Located

SD, XL, OTHER = "sd", "xl", "other"
#: sides that pipelines of other families take for granted where no configuration says one, pixels
_OTHER_NATIVE, _OTHER_MULTIPLE = 1024, 16
_VAES = ("AutoencoderKL", "AsymmetricAutoencoderKL")
_PREDICTIONS = ("epsilon", "sample", "v_prediction")
#: no model sees more pixels a side at once
_MOST_NATIVE = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A model as its configuration describes it.

    *configs*: the folder with ``model_index.json``; *index*: what stands in that. *family*: sd, xl, or other: what runs
    through diffusers' own pipeline. *native*: pixels a side; *grid*: pixels per latent cell; *multiple_of*: pixels.
    """

    located: Located
    configs: Path
    index: Mapping[str, Any]
    family: str
    native: int
    grid: int
    multiple_of: int

    def config(self, part: str) -> Mapping[str, Any]:
        """Return the configuration of a component; empty where it has none."""
        for name in ("config.json", "scheduler_config.json"):
            if (self.configs / part / name).is_file():
                return kinds.read_json(self.configs / part / name)
        return {}

    @property
    def encoders(self) -> list[str]:
        """The text encoders in the order in which their embeddings are joined."""
        return [name for name in ("text_encoder", "text_encoder_2") if (self.index.get(name) or [None])[0]]


@cache
def read(name: str, tasks: tuple[str, ...] = kinds.FOR_INPAINT) -> Layout:
    """Return the layout of the model that a user calls *name*, for one of *tasks*; read once in a process.

    Raises what ``models.locate`` does, and DataError where a configuration lacks what it must say.
    """
    located = models.locate(name, tasks=tasks)
    configs = _configs_of_file(located) if located.single else located.path
    index = kinds.read_json(configs / "model_index.json")
    try:
        found = _read(located, configs, index)
        _check(found)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"the configuration of {Path(located.name).name:.80} is damaged: {error!s:.80}"
        raise DataError(message, weights.AGAIN) from None
    return found


def _read(located: Located, configs: Path, index: Mapping[str, Any]) -> Layout:
    made = Layout(located, configs, index, OTHER, 0, 0, 0)
    unet, vae = made.config("unet"), made.config("vae")
    if _is_ours(index, unet, vae):
        family = XL if "text_encoder_2" in index and unet.get("addition_embed_type") == "text_time" else SD
        grid = 2 ** (len(vae.get("block_out_channels") or vae["down_block_out_channels"]) - 1)
        return Layout(located, configs, index, family, _side(unet) * grid, grid, grid)
    if located.single:
        raise DataError(
            f"{located.name!r:.200}: only models of the Stable Diffusion 1, 2 and XL families run from a single file",
            "give its folder in diffusers' layout, or its Hub id",
        )
    vae = vae or made.config("movq")
    grid = 2 ** (len(vae.get("block_out_channels", range(4))) - 1)
    core = made.config("transformer") or unet
    native = _side(core) * grid if core.get("sample_size") else _OTHER_NATIVE
    return Layout(located, configs, index, OTHER, native, grid, max(grid, _OTHER_MULTIPLE))


def _check(layout: Layout) -> None:
    """Raise KeyError or ValueError where a configuration lacks what is asked of it later."""
    if not 0 < layout.native <= _MOST_NATIVE:
        raise ValueError(f"a side of {layout.native} pixels")
    if layout.family == OTHER:
        return
    sizes = [layout.config("vae")["latent_channels"]]
    for text in map(layout.config, layout.encoders):
        sizes += [text["max_position_embeddings"], text["hidden_size"]]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError("a size is no number")
    prediction = layout.config("scheduler").get("prediction_type", _PREDICTIONS[0])
    if prediction not in _PREDICTIONS:
        raise ValueError(f"prediction_type is {prediction!r:.40}")


def _is_ours(index: Mapping[str, Any], unet: Mapping[str, Any], vae: Mapping[str, Any]) -> bool:
    """Say whether the components are those of Stable Diffusion 1, 2 or XL, whatever pipeline they were saved by."""
    texts = [index[name][1] for name in ("text_encoder", "text_encoder_2") if (index.get(name) or [None])[0]]
    return (
        unet.get("_class_name") == "UNet2DConditionModel"
        and vae.get("_class_name") in _VAES
        and texts in (["CLIPTextModel"], ["CLIPTextModel", "CLIPTextModelWithProjection"])
        and "ControlNet" not in str(index.get("_class_name"))
        and unet.get("addition_embed_type") in (None, "text_time")
        and (len(texts) == 2) == (unet.get("addition_embed_type") == "text_time")
    )


def _side(config: Mapping[str, Any]) -> int:
    size = config.get("sample_size") or 64
    return int(size if isinstance(size, int) else min(size))


def _configs_of_file(located: Located) -> Path:
    """Return the folder with the configuration of a single file: the one of its name beside it, or one in the cache.

    Raises Unavailable where neither is here.
    """
    beside = located.path.with_suffix("")
    if (beside / "model_index.json").is_file():
        return beside
    with packages.importing("diffusers"):
        from diffusers.loaders import single_file_utils

    known: Any = single_file_utils.fetch_diffusers_config
    shapes = weights.header(located.path).shapes
    stated: str = known({name: SimpleNamespace(shape=shape) for name, shape in shapes.items()})[
        "pretrained_model_name_or_path"
    ]
    hint = f"put its configuration and tokenizer, the folder of a model of its kind, beside it as {beside.name}/"
    found = hub.snapshot(stated, hub.MAIN)
    if found is None or not (found.folder / "model_index.json").is_file():
        if settings.offline():
            raise Unavailable(
                f"the configuration of {located.path.name} is not here, and the network may not be used",
                f"{hint}; or once with a network: imgedit models pull {stated}",
            )
        from imgedit.models.pulling import pull

        found = pull(stated, configs_only=True)
    return found.folder
