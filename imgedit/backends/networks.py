"""Opens networks for pictures from files of weights, any that spandrel knows, and says what each is for.

Nothing in a file is run: safetensors are read as numbers, .pth and the like by torch's loader for weights alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imgedit import models
from imgedit.errors import DataError, Unavailable
from imgedit.models import kinds, packages, settings, weights

#: what spandrel calls the purpose of a network → what it is called here
_PURPOSES = {"SR": "upscale", "Inpainting": "fill", "Restoration": "restore", "FaceSR": "faces"}
#: purpose → what it does, and the command for it
_USES = {
    "upscale": ("enlarges pictures", "imgedit upscale --backend spandrel:{file}"),
    "fill": ("fills holes", "imgedit erase --backend spandrel:{file}"),
    "restore": ("restores pictures at their own size", "none of the commands runs such a network"),
    "faces": ("restores faces", "none of the commands runs such a network"),
}
_SAFE = "give its weights as a .safetensors file"
_KNOWN = "known are the networks that spandrel loads: ESRGAN, Compact, SwinIR, HAT, DAT and others; LaMa to fill"


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network in memory. *name*: of its file, without folders, or its Hub id. *purpose*: ``upscale``, ``fill``, …

    *architecture*: as spandrel calls it. *scale*: output pixels per input pixel. *multiple_of*, *minimum*, *square*:
    what rows and columns must be, *channels*: of pictures in and out. *digest*: sha256 of the file. *descriptor*:
    spandrel's object; it is called with tensors (1, channels, rows, columns) in 0…1, float32, on *device*.
    """

    name: str
    purpose: str
    architecture: str
    scale: int
    multiple_of: int
    minimum: int
    square: bool
    channels: tuple[int, int]
    digest: str
    device: str
    descriptor: Any = field(repr=False)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the step records of it."""
        return {"net": f"{self.architecture} {self.name} sha256:{self.digest}"}


def load(given: str, purpose: str) -> Network:
    """Return the network in the file *given* (a path, or a Hub id that holds one file of weights) for *purpose*.

    It is ready to run, in float32, on a CUDA device where there is one, else on the CPU; one instance a file and
    process. Raises Unavailable where it is not here, DataError where it is damaged, can only be unpickled by running
    code, is no network that is known, or is for something else.
    """
    path, name = _found(given, purpose)
    network = _load(path, name, path.stat().st_size, path.stat().st_mtime_ns)
    if network.purpose != purpose:
        what, use = _USES[network.purpose]
        raise DataError(
            f"{name} is a network that {what} ({network.architecture}), not one that {_USES[purpose][0]}",
            use.format(file=given) if network.purpose in ("upscale", "fill") else use,
        )
    return network


def _found(given: str, purpose: str) -> tuple[Path, str]:
    path = settings.expanded(given)
    if path.is_file() and path.suffix.lower() in weights.PICKLES:
        return path, path.name
    located = models.locate(given, tasks=(), meant=(purpose,))
    if not located.single:
        enlarges = located.task == kinds.UPSCALE
        use = f"imgedit upscale --backend diffusion:{given}" if enlarges else "imgedit inpaint --model runs such models"
        raise DataError(f"{Path(given).name} holds a model of several parts", use)
    return located.path, given if located.revision else located.path.name


@cache
def _load(path: Path, name: str, size: int, changed: int) -> Network:
    import torch

    try:
        from spandrel import ModelLoader, UnsupportedModelError, canonicalize_state_dict
    except RuntimeError as error:  # of torchvision, which it imports
        raise packages.broken(error, "spandrel") from error
    _further()
    tensors = canonicalize_state_dict(state(path, name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what its architectures use of other packages
            descriptor = ModelLoader().load_from_state_dict(tensors)
    except UnsupportedModelError:
        raise DataError(f"{name} holds no network that is known here{_extra(tensors)}", _KNOWN) from None
    except (RuntimeError, KeyError, ValueError, IndexError, AttributeError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} looks like a known network, and does not fit it: {reason:.160}", weights.AGAIN
        ) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    descriptor.to(torch.device(device), torch.float32).eval()
    descriptor.model.requires_grad_(False)
    needs = descriptor.size_requirements
    return Network(
        name=name,
        purpose=_PURPOSES.get(descriptor.purpose, "restore"),
        architecture=descriptor.architecture.name,
        scale=descriptor.scale,
        multiple_of=needs.multiple_of,
        minimum=needs.minimum,
        square=needs.square,
        channels=(descriptor.input_channels, descriptor.output_channels),
        digest=weights.digest(path),
        device=device,
        descriptor=descriptor,
    )


def state(path: Path, name: str) -> Any:
    """Return the tensors in a file by their names; no code in it is run."""
    import torch

    if path.suffix.lower() not in weights.PICKLES:
        from safetensors.torch import load_file

        return load_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of archives that hold a program: refused all the same
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        if "TorchScript" in reason:
            raise DataError(
                f"{name} is a TorchScript program, not weights", "give its weights as .safetensors"
            ) from None
        if "Unsupported" in reason or "Weights only" in reason or "weights_only" in reason:
            raise DataError(
                f"{name} holds more than weights, and reading it could run code", "give its weights as .safetensors"
            ) from None
        # of a file that ends where it begins torch says nothing
        raise DataError(f"{name} is damaged: {reason or 'it ends too early':.160}", weights.AGAIN) from None
    if not isinstance(found, dict) or not found:
        raise DataError(f"{name} holds no weights by name", _KNOWN)
    return found


@cache
def _further() -> None:
    """Let spandrel know the architectures of its second package, where that is installed."""
    if find_spec("spandrel") is None:
        raise Unavailable("spandrel is not installed here", "pip install 'imgedit[models]'")
    if find_spec("spandrel_extra_arches") is not None:
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)


def _extra(state: Any) -> str:
    # a diffusion model in a single file is the likeliest mistake
    return ": it is a diffusion model" if any("diffusion_model" in str(key) for key in state) else ""
