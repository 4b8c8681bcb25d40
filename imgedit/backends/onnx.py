"""Open the networks that run by onnxruntime, all in the same way: quiet, and a good neighbour."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def session(path: Path, threads: int, *, arena: bool) -> Any:
    """Return an onnxruntime session for *path* on at most *threads* of the cores that this process may use.

    *arena*: keep memory between runs, which is faster; without, it is given back.
    """
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
