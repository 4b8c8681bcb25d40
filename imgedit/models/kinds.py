"""What a model is for, told from its configuration or from the names and shapes in its file: no weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgedit.errors import DataError
from imgedit.models.weights import AGAIN, Header, shown

INPAINT, TEXT, UPSCALE, FILL = "inpaint", "text-to-image", "upscale", "fill"
#: what `inpaint` can use: models made for it, and those that draw from text alone
FOR_INPAINT = (INPAINT, TEXT)
#: channels that the first layer of a UNet takes → what it was trained for
_BY_CHANNELS = {4: TEXT, 5: "depth-to-image", 7: UPSCALE, 8: "instructed editing", 9: INPAINT}
#: parts of class names, in the order in which they decide
_BY_CLASS = (
    ("Upscale", UPSCALE),
    ("Inpaint", INPAINT),
    ("Fill", INPAINT),
    ("Pix2Pix", "instructed editing"),
    ("Depth2Img", "depth-to-image"),
    ("ImageVariation", "variations of a picture"),
    ("Video", "video"),
    ("Audio", "sound"),
    ("Autoencoder", "a VAE alone"),
    ("UNet", "a UNet alone"),
    ("Transformer2D", "a transformer alone"),
    ("ControlNet", "a ControlNet alone"),
    ("TextModel", "a text encoder alone"),
    ("Tokenizer", "a tokenizer alone"),
    ("Scheduler", "a scheduler alone"),
    ("Pipeline", TEXT),
)
_FIRST_LAYER = ("model.diffusion_model.input_blocks.0.0.weight", "unet.conv_in.weight", "conv_in.weight")
#: parts of names of tensors that give a single file away, in the order in which they decide
_BY_TENSOR = (
    ("lora_", "a LoRA, an addition to a model"),
    (".lora", "a LoRA, an addition to a model"),
    ("control_model.", "a ControlNet alone"),
    ("double_blocks.", TEXT),
    ("joint_blocks.", TEXT),
    (".ffc.convl2l.", FILL),
    ("text_model.encoder.", "a text encoder alone"),
    ("quant_conv.", "a VAE alone"),
    ("encoder.conv_in.weight", "a VAE alone"),
    ("body.0.rdb1.", UPSCALE),
    ("RRDB", UPSCALE),
    (".RDB1.", UPSCALE),
    ("relative_position_bias_table", UPSCALE),
)


def of_folder(folder: Path) -> str:
    """Return the task of a model in diffusers' layout. Raises DataError where it is none, or damaged."""
    index = folder / "model_index.json"
    if not index.is_file():
        if (folder / "config.json").is_file():
            alone = read_json(folder / "config.json")
            architectures = alone.get("architectures")
            named = architectures[0] if isinstance(architectures, list) and architectures else ""
            return _by_class(str(alone.get("_class_name") or named or "Pipeline")).replace(TEXT, "a part alone")
        raise DataError(
            f"{folder.absolute().name} is no model in diffusers' layout: there is no model_index.json",
            "give the folder that holds model_index.json, unet and vae, a .safetensors file, or a Hub id",
        )
    task = _by_class(str(read_json(index).get("_class_name", "")))
    unet = folder / "unet" / "config.json"
    # a name says what a pipeline was saved as; the first layer says what the UNet takes
    if task in FOR_INPAINT and unet.is_file():
        channels = read_json(unet).get("in_channels")
        task = _BY_CHANNELS.get(channels, task) if isinstance(channels, int) else task
    return task


def of_file(header: Header) -> str:
    """Return the task of a single file: "unknown" where nothing in it is known."""
    for name in _FIRST_LAYER:
        if name in header.shapes and len(header.shapes[name]) == 4:
            task = _BY_CHANNELS.get(header.shapes[name][1], "unknown")
            return task if name.startswith("model.") else "a UNet alone"
    names = "\n".join(header.shapes)
    return next((task for part, task in _BY_TENSOR if part in names), "unknown")


def diffuses(header: Header) -> bool:
    """Return whether a single file holds a diffusion model with all its parts."""
    return _FIRST_LAYER[0] in header.shapes


def _by_class(name: str) -> str:
    return next((task for part, task in _BY_CLASS if part in name), "unknown")


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the object in a configuration file. Raises DataError where it is damaged."""
    name = shown(path)
    name = name if "/" in name else f"{path.absolute().parent.name}/{path.name}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{name} is damaged: {error!s:.80}", AGAIN) from None
    if not isinstance(found, dict):
        raise DataError(f"{name} is damaged: it is no object", AGAIN)
    return found
