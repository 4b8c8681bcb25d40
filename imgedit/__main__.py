"""``python -m imgedit`` and the ``imgedit`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the version is answered without loading it."""
    if sys.argv[1:] == ["--version"]:
        from imgedit import __version__

        print(f"imgedit {__version__}")
        return
    from imgedit.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
