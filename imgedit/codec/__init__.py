"""Frames ↔ streams of PNGs ↔ files, and files that appear whole or not at all; the only room that knows PNG."""

from __future__ import annotations

from imgedit.codec.atomic import file_error, show, write_whole
from imgedit.codec.files import (
    PICTURES,
    check_writable,
    picture_of,
    plane_path,
    read_file,
    sidecar_path,
    stated_digest,
    write_file,
)
from imgedit.codec.limits import Limits, is_plane_name
from imgedit.codec.stream import read_stream, write_stream

__all__ = [
    "PICTURES",
    "Limits",
    "check_writable",
    "file_error",
    "is_plane_name",
    "picture_of",
    "plane_path",
    "read_file",
    "read_stream",
    "show",
    "sidecar_path",
    "stated_digest",
    "write_file",
    "write_stream",
    "write_whole",
]
