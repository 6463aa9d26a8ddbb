"""The intrinsic subspace with the model in the loop: many tasks tuned in one batch, MSF and IST."""
