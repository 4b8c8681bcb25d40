"""Latent encoders."""
