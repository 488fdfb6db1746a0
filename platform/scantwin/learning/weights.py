"""`Model`: a recipe and its weights in a folder that is complete in itself. safetensors, never pickle.

model.json                              recipe, training record, sha256 of every file
components/pix2pix.trunk.generator.safetensors
statistics.safetensors                  additive sums behind the error bar, if any
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from scantwin import NOTICE, __version__
from scantwin.errors import InputError
from scantwin.files import whole_folder, write_json
from scantwin.learning.recipe import Recipe

if TYPE_CHECKING:
    from scantwin.learning.system import System

Arrays = dict[str, NDArray[Any]]
Components = dict[str, Arrays]
"""Component name -> parameter name -> array."""

FORMAT: Final = 1
"""Of the model folder."""

_LARGEST_FILE: Final = 4 * 2**30
"""Bytes; a component beyond this is refused before it is read."""


def system_arrays(system: System) -> Components:
    """A copy of all weights of `system`."""
    return {
        name: {key: value.detach().cpu().numpy().copy() for key, value in network.state_dict().items()}
        for name, network in system.components().items()
    }


def load_arrays(system: System, components: Components) -> None:
    """Puts weights into `system`. Names and shapes must match exactly, or `InputError`."""
    import torch

    networks = system.components()
    if set(networks) != set(components):
        odd = sorted(set(networks) ^ set(components))
        raise InputError(f"The weights do not belong to this recipe: {odd[0]} is on one side only.")
    for name, network in networks.items():
        wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        given = {key: tuple(value.shape) for key, value in components[name].items()}
        if wanted != given:
            raise InputError(
                f"The weights of {name} do not fit this recipe.",
                hint="Use the model's own recipe, and the ScanTwin that made it.",
            )
        network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in components[name].items()})


@dataclass(frozen=True)
class Model:
    """A recipe, its components, how they were trained, and the sums behind the error bar."""

    recipe: Recipe
    components: Components
    record: dict[str, Any] = field(default_factory=dict)
    """How it was trained: data, steps, seeds, metrics. `record["patches"]` counts patches per component."""
    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Additive sums (evaluation.held_out): their sum over sites is the consortium's."""

    def trained(self, district: str) -> bool:
        """Whether any patch of `district` was ever learnt from."""
        patches = self.record.get("patches", {})
        return any(count > 0 for name, count in patches.items() if name.split("/")[1] == district)

    def save(self, folder: Path) -> Path:
        """Writes the folder, whole."""
        with whole_folder(folder) as aside:
            (aside / "components").mkdir()
            files = {}
            for name, arrays in self.components.items():
                path = aside / "components" / f"{name.replace('/', '.')}.safetensors"
                save_file({k: np.asarray(v, order="C") for k, v in sorted(arrays.items())}, path)
                files[str(path.relative_to(aside))] = _sha256(path)
            if self.statistics:
                path = aside / "statistics.safetensors"
                save_file(
                    {k: np.ascontiguousarray(v, np.float64) for k, v in sorted(self.statistics.items())}, path
                )
                files[path.name] = _sha256(path)
            about = {
                "format": FORMAT, "notice": NOTICE, "scantwin": __version__,
                "recipe": self.recipe.model_dump(mode="json"),
                "components": sorted(self.components), "record": self.record, "files": files,
            }  # fmt: skip
            write_json(aside / "model.json", about)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Reads a model folder; refuses a missing, truncated or tampered file with `InputError`."""
        about_path = folder / "model.json"
        if not about_path.is_file():
            raise InputError(f"{folder} is not a model folder: it has no model.json.", hint="Check --model.")
        try:
            about = json.loads(about_path.read_text())
            files, names, record = dict(about["files"]), list(about["components"]), dict(about["record"])
            version = about["format"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{about_path} cannot be read as a model's description.") from None
        if version != FORMAT:
            raise InputError(f"{folder} has model format {version}, this ScanTwin reads {FORMAT}.")
        try:
            recipe = Recipe.read(about["recipe"], str(about_path))
        except InputError as error:
            made = f"It was made by ScanTwin {about.get('scantwin')}, this is {__version__}"
            raise InputError(error.message, hint=f"{made}: train it again.") from None
        components = {}
        for name in names:
            components[str(name)] = _read(
                folder, f"components/{str(name).replace('/', '.')}.safetensors", files
            )
        statistics = {}
        if "statistics.safetensors" in files:
            statistics = _read(folder, "statistics.safetensors", files)
        return cls(recipe, components, record, statistics)


def _read(folder: Path, relative: str, files: dict[str, str]) -> Arrays:
    path = folder / relative
    # The name is made from a component's: it must not lead out of the folder.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"The model in {folder} names a file outside of it.")
    if not path.is_file():
        raise InputError(f"The model in {folder} lacks {relative}.", hint="Fetch it again.")
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path} is too large for a model's weights.")
    if files.get(relative) != _sha256(path):
        raise InputError(f"{path} was changed or cut short: its checksum differs.", hint="Fetch it again.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}.") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
