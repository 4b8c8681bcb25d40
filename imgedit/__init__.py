"""imgedit: repair and enlarge pictures in steps that prove what they changed."""

__version__ = "0.1.0"
