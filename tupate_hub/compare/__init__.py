"""Compare: kernels, similarities and rankings, on arrays alone."""
