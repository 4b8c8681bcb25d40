"""Pure functions on arrays: no frame, no file, no model."""
