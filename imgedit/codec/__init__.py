"""Frames ↔ streams of PNGs ↔ files, and files that appear whole or not at all; the only room that knows PNG."""

from __future__ import annotations

from imgedit.codec.atomic import atomic, check_writable, file_error, save_bytes, show
from imgedit.codec.files import (
    is_side_file,
    plane_path,
    planned_paths,
    read_file,
    read_sidecar,
    side_paths,
    sidecar_path,
    write_file,
)
from imgedit.codec.limits import Limits
from imgedit.codec.stream import read_stream, write_stream

__all__ = [
    "Limits",
    "atomic",
    "check_writable",
    "file_error",
    "is_side_file",
    "plane_path",
    "planned_paths",
    "read_file",
    "read_sidecar",
    "read_stream",
    "save_bytes",
    "show",
    "side_paths",
    "sidecar_path",
    "write_file",
    "write_stream",
]
