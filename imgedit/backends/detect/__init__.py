"""Text detectors."""
