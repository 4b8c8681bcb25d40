"""What holds for all models of a process: whether the network may be used, and where downloads lie."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from imgedit.errors import FileError


def expanded(name: str | Path) -> Path:
    """Return *name* as a path, with the folder of a user for ``~`` where there is such a user."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib's raises where there is none


def configure(*, offline: bool = False, cache_dir: str | Path | None = None) -> None:
    """Set for this process what --offline and --cache-dir say; call it before any model package is imported.

    It goes by the environment that huggingface_hub and the packages on top of it read when they are imported. Nothing
    that was set there is undone: a process that was started with HF_HUB_OFFLINE stays offline.
    Raises FileError where *cache_dir* is a file.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if cache_dir is not None:
        folder = expanded(cache_dir).absolute()
        if folder.exists() and not folder.is_dir():
            raise FileError(f"{str(cache_dir)!r} is a file, no folder for models", "give a folder: --cache-dir FOLDER")
        os.environ["HF_HUB_CACHE"] = str(folder)
    _no_probes()


def _no_probes() -> None:
    if offline():
        # urllib3, which diffusers brings along, opens a socket when it is imported, to see whether there is IPv6
        socket.has_ipv6 = False


def offline() -> bool:
    """Return whether no network may be used: --offline, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def cache_dir() -> Path:
    """Return the folder of the Hub's own cache, found as huggingface_hub finds it; it need not exist."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return expanded(os.environ[name])
    if os.environ.get("HF_HOME"):
        return expanded(os.environ["HF_HOME"]) / "hub"
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(home) / "huggingface" / "hub"
