"""Upscalers."""
