"""Lets torchvision be imported beside a torch that its operators were not built for: transformers imports it where it
is installed, and what is tested here uses none of its operators.

On PYTHONPATH for processes that tests start; tests/conftest.py runs it for the tests' own process.
"""

import sys


class _Operators:
    """Defines the operators that torchvision wants registered; does nothing, torch included, before it is imported."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if not name.startswith("torchvision."):
            return
        import sys

        import torch

        sys.meta_path.remove(cls)

        if not hasattr(torch.ops.torchvision, "nms"):
            # held by torch: what is run by runpy is forgotten, this class too, and the operators would go with it
            library = torch.library.held_for_torchvision = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _Operators)
