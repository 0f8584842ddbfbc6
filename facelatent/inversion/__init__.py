"""Photo to latent: alignment, perceptual losses, optimisation."""
