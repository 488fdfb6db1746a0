"""The starter models: weights trained on phantoms only, so that `scantwin scan` works after installation.

Data, no code: a model folder for each system (`pix2pix`, `coarse-diffusion`), as `Model.save` writes it.
`python -m benchmarks.starter` makes them again; `scantwin.translation.starter` finds them.
"""
