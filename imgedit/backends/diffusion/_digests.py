"""Which weights a model has, part by part: the same digest for a folder, a single file and a half-precision variant."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from imgedit.errors import DataError, FileError
from imgedit.models.weights import AGAIN

#: part → its component in diffusers' layout, how its tensors begin there, and how in a single file
_PARTS = {
    "vae_encoder": (
        "vae",
        ("encoder.", "quant_conv."),
        ("first_stage_model.encoder.", "first_stage_model.quant_conv."),
    ),
    "vae_decoder": (
        "vae",
        ("decoder.", "post_quant_conv."),
        ("first_stage_model.decoder.", "first_stage_model.post_quant_conv."),
    ),
    "text_encoder": ("text_encoder", ("",), ("cond_stage_model.", "conditioner.embedders.0.")),
    "text_encoder_2": ("text_encoder_2", ("",), ("conditioner.embedders.1.",)),
}


def parts(files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """Return part → ``sha256:…`` of its weights, for the VAE's two halves and each text encoder that a model has.

    *files*: component → its files of weights, as ``imgedit.models.Located.files`` has them: ``vae``, ``text_encoder``,
    …, or ``""`` for a single file. A digest is over the values alone, rounded to half precision, whatever their names
    and order. OpenCLIP text encoders are laid out differently in single files, and have other digests there. Raises
    DataError for a damaged file, FileError for one that cannot be read.
    """
    found = {}
    for part, (component, in_folder, in_file) in _PARTS.items():
        single = "" in files
        paths = files.get("" if single else component, ())
        stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
        digest = _digest(stamps, in_file if single else in_folder)
        if digest is not None:
            found[part] = digest
    return found


@cache
def _digest(stamps: tuple[tuple[str, int, int], ...], prefixes: tuple[str, ...]) -> str | None:
    single = sorted(digest for file, _, _ in stamps for digest in _tensors(Path(file), prefixes))
    return "sha256:" + hashlib.sha256(b"".join(single)).hexdigest() if single else None


def _tensors(file: Path, prefixes: tuple[str, ...]) -> Iterator[bytes]:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                if name.startswith(prefixes):
                    tensor: Any = opened.get_tensor(name)
                    if tensor.is_floating_point():  # positions are counted, not trained
                        yield hashlib.sha256(tensor.to(torch.float16).contiguous().numpy()).digest()
    except SafetensorError as error:
        raise DataError(f"{file.name} is damaged: {error}", AGAIN) from None
    except OSError as error:
        raise FileError(f"{file.name} could not be read: {error}", "check the rights of the file") from None
