"""``python -m imgedit`` and the ``imgedit`` command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; the version is answered without loading it."""
    if sys.argv[1:] == ["--version"]:
        from imgedit import __version__

        print(f"imgedit {__version__}")
        return
    # before numpy is loaded: pictures are worked on side by side, where threads that wait in a loop take the cores
    # from each other
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from imgedit.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
