"""Model files: known ids, the Hub's cache, folders and single files; found, checked, fetched. Runs no model."""

from imgedit.models.locating import Located, locate
from imgedit.models.settings import configure

__all__ = ["Located", "configure", "locate"]
