"""Open the networks that run by onnxruntime, all in the same way: quiet, and a good neighbour."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any


@cache
def fingerprint(path: Path) -> str:
    """Return the name and the digest of a network in a file, for the record of a step."""
    return f"{path.stem} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def session(path: Path, threads: int, *, arena: bool) -> Any:
    """Return an onnxruntime session for *path* on at most *threads* of the cores that this process may use.

    *arena*: keep memory between runs, which is faster; without, it is given back.
    """
    # before the import: the library reports to its makers else, and leaves a file among the temporary ones
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # not every system can say which cores these are
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.intra_op_num_threads = min(threads, usable)
    options.inter_op_num_threads = 1
    # waiting threads sleep: other stages and processes share the machine
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = arena
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
