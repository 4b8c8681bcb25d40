"""Finders of strokes."""
