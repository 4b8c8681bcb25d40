"""Models that imagine what is hidden, by diffusion in a latent space."""
