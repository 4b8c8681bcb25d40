"""Hole fillers."""
