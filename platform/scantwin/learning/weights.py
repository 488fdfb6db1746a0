"""`Model`: a recipe and its weights in a self-contained folder. safetensors, never pickle.

model.json                              recipe, training record, sha256 of every file
components/pix2pix.trunk.generator.safetensors
statistics.safetensors                  additive sums behind the error bar; empty where there are none

The header of each safetensors file says what it belongs to: component and recipe; that of the statistics has
also the sha256 of the training record and of the list of components. So a model.json that was changed by
itself is refused. (This does not stop anyone who rewrites every file: that takes a signature.) A component
knows nothing of the record, which differs from round to round: a component that no site trained stays the
same file, and the registry stores it once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scantwin import NOTICE, __version__
from scantwin.errors import InputError, ScanTwinError
from scantwin.files import sha256, whole_file, whole_folder, write_json
from scantwin.learning.recipe import Recipe

if TYPE_CHECKING:
    from scantwin.learning.system import System

Arrays = dict[str, NDArray[Any]]
Components = dict[str, Arrays]
"""Component name -> parameter name -> array."""

FORMAT: Final = 2
"""Format of the model folder. Since 2 the safetensors files say what they belong to."""

_STATISTICS: Final = "statistics"
"""The name that the file of the statistics has in place of a component's."""

_KEY: Final = "scantwin"
"""Key of the metadata in a file's header. Only one: safetensors writes several in any order, and the same
component must give the same file."""

_OLDER: Final = "Train it again, or fetch one that this ScanTwin's version made."

_FIT: Final = "Use the model's own recipe, and the ScanTwin that made it."

_AGAIN: Final = "Fetch the model again, or train it again."

_LARGEST_FILE: Final = 4 * 2**30
"""Size [bytes] above which a component is refused before it is read."""


def system_arrays(system: System) -> Components:
    """A copy of all weights of `system`."""
    return {
        name: {key: value.detach().cpu().numpy().copy() for key, value in network.state_dict().items()}
        for name, network in system.components().items()
    }


def load_arrays(system: System, components: Components) -> None:
    """Loads weights into `system`. Raises `InputError` unless names and shapes match exactly."""
    import torch

    networks = system.components()
    if set(networks) != set(components):
        odd = sorted(set(networks) ^ set(components))
        raise InputError(
            f"The weights do not belong to this recipe: {odd[0]} is on one side only.", hint=_FIT
        )
    for name, network in networks.items():
        wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        given = {key: tuple(value.shape) for key, value in components[name].items()}
        if wanted != given:
            raise InputError(f"The weights of {name} do not fit this recipe.", hint=_FIT)
        network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in components[name].items()})


@dataclass(frozen=True)
class Model:
    """A recipe, its components, how they were trained, and the sums behind the error bar."""

    recipe: Recipe
    components: Components
    record: dict[str, Any] = field(default_factory=dict)
    """How it was trained: data, steps, seeds, metrics. `record["patches"]` counts patches per component."""
    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Additive sums (evaluation.held_out): added up over sites they are the consortium's."""

    def trained(self, district: str) -> bool:
        """Whether any patch of `district` was ever learnt from."""
        patches = self.record.get("patches", {})
        return any(count > 0 for name, count in patches.items() if name.split("/")[1] == district)

    def save(self, folder: Path) -> Path:
        """Writes the folder as a whole. Raises `ScanTwinError` if anything in it is not a number."""
        sums = {key: np.asarray(value, np.float64) for key, value in self.statistics.items()}
        parts = {**self.components, _STATISTICS: sums}
        for name, arrays in parts.items():
            if not all(np.isfinite(value).all() for value in arrays.values()):
                raise _not_a_number(name)
        about: dict[str, Any] = {
            "format": FORMAT, "notice": NOTICE, "scantwin": __version__,
            "recipe": self.recipe.model_dump(mode="json"),
            "components": sorted(self.components), "record": self.record, "files": {},
        }  # fmt: skip
        # Converted to what will be read back: the digests are of that.
        try:
            about = json.loads(json.dumps(about, default=str, allow_nan=False))
        except ValueError:
            raise _not_a_number("training record") from None
        with whole_folder(folder) as aside:
            # The statistics come last: their header has the digest of the components' checksums.
            for name, arrays in parts.items():
                path = aside / _file_of(name)
                with whole_file(path) as part:
                    plain = {key: np.asarray(value, order="C") for key, value in sorted(arrays.items())}
                    save_file(plain, part, metadata={_KEY: _canonical(_belongs(name, about))})
                about["files"][_file_of(name)] = sha256(path)
            write_json(aside / "model.json", about)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Reads a model folder; refuses a missing, truncated or tampered file with `InputError`."""
        try:
            return cls._read_folder(folder)
        except RecursionError:
            raise InputError(f"{folder / 'model.json'} is nested too deeply.", hint=_AGAIN) from None

    @classmethod
    def _read_folder(cls, folder: Path) -> Model:
        about_path = folder / "model.json"
        if not about_path.is_file():
            raise InputError(f"{folder} is not a model folder: it has no model.json.", hint="Check --model.")
        try:
            about = json.loads(about_path.read_text())
            about["files"], record = dict(about["files"]), dict(about["record"])
            names, values, version = list(about["components"]), about["recipe"], about["format"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{about_path} cannot be read as a model's description.", hint=_AGAIN) from None
        if version != FORMAT:
            raise InputError(
                f"{folder} has model format {str(version)[:20]}, this ScanTwin reads {FORMAT}.", hint=_OLDER
            )
        try:
            recipe = Recipe.read(values, str(about_path))
        except InputError as error:
            made = f"It was made by ScanTwin {about.get('scantwin')}, this is {__version__}"
            raise InputError(error.message, hint=f"{made}: train it again.") from None
        # The statistics come first: they are small and know all of model.json.
        statistics = _read(folder, _STATISTICS, about)
        return cls(recipe, {str(name): _read(folder, str(name), about) for name in names}, record, statistics)


def require_model_alone(folder: Path) -> None:
    """Raises `InputError` if `folder` is no model folder or holds anything that is not part of its model.

    To be called before a folder is given to others, who take all that is in it.
    """
    model = Model.load(folder)
    own = {"model.json", *map(_file_of, (*model.components, _STATISTICS))}
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    if odd := sorted(set(there) - own):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise InputError(
            f"{folder} holds files that are no part of its model: {', '.join(odd[:3])}{more}.",
            hint="Take them out: all that is in the folder would be published.",
        )


def _not_a_number(part: str) -> ScanTwinError:
    return ScanTwinError(
        f"The model is not saved: its {part} holds what is not a number. Its training diverged.",
        hint="Train with a smaller optimisation.learning_rate in the recipe.",
    )


def _file_of(name: str) -> str:
    """Path of a component's file, or that of the statistics, inside the folder."""
    inside = "" if name == _STATISTICS else "components/"
    return f"{inside}{name.replace('/', '.')}.safetensors"


def _belongs(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """What the file of the component `name`, or of the statistics, belongs to: `about` is model.json.

    The keys are the names of the parts of model.json in error messages.
    """
    said = {"component": name, "recipe": about["recipe"]}
    if name == _STATISTICS:
        files = {path: digest for path, digest in about["files"].items() if path != _file_of(_STATISTICS)}
        parts = {"training record": about["record"], "list of components": [about["components"], files]}
        said |= {
            part: hashlib.sha256(_canonical(value).encode()).hexdigest() for part, value in parts.items()
        }
    return said


def _canonical(value: Any) -> str:
    """The canonical JSON text of a value read from JSON; Python reads floats back as it wrote them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _read(folder: Path, name: str, about: dict[str, Any]) -> Arrays:
    """The arrays of the component `name`, or the statistics, of the model that `about` describes."""
    relative = _file_of(name)
    path = folder / relative
    # The path is made from a component's name: it must not lead out of the folder.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"The model in {folder} names a file outside of it.",
            hint="Fetch it again from whom you trust, and put the files themselves in the folder, not links.",
        )
    if not path.is_file():
        raise InputError(f"The model in {folder} lacks {relative}.", hint="Fetch it again.")
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(
            f"{path} is too large for a model's weights: more than {_LARGEST_FILE / 2**30:.0f} GiB.",
            hint="Fetch the model again, from whom you trust: ScanTwin makes none so large.",
        )
    if about["files"].get(relative) != sha256(path):
        raise InputError(f"{path} was changed or cut short: its checksum differs.", hint="Fetch it again.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}.", hint=_AGAIN) from None
    try:
        said = dict(json.loads(metadata[_KEY]))
    except (KeyError, ValueError, TypeError):
        raise InputError(
            f"{path} does not say what it belongs to: an older ScanTwin made it.", hint=_OLDER
        ) from None
    if said.get("component") != name:
        raise InputError(f"{path} holds {said.get('component')}, not {name}.", hint="Fetch it again.")
    for part, value in _belongs(name, about).items():
        if said.get(part) != value:
            raise InputError(
                f"{folder / 'model.json'} was changed: "
                f"its {part} is not the one that {relative} was saved with.",
                hint="Fetch or train the model again; a recipe is changed before a training.",
            )
    return arrays
