"""CT synthesis: inpainting of slices, and whole volumes."""
