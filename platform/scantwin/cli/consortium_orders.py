"""What `scantwin consortium train` orders: the recipe, and the weights to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scantwin.errors import InputError

if TYPE_CHECKING:
    from scantwin.federation.launching import Order
    from scantwin.learning.recipe import Recipe
    from scantwin.store.models import ModelVersion
    from scantwin.store.registry import Registry


def refuse_beside_resume(**given: object) -> None:
    """Raises `InputError` for an option of a new run, which --resume would ignore."""
    for option, value in given.items():
        if value is not None:
            raise InputError(
                "--resume goes on with the run as it was ordered.", hint=f"Leave out --{option}."
            )


def recipe_of(registry: Registry, base: ModelVersion | None, wanted: str | None) -> Recipe:
    """The recipe of a run: the one `wanted`, else its base's.

    Raises `InputError` if the base's weights do not fit the recipe.
    """
    from scantwin.learning.recipe import Recipe

    if base is None:
        return Recipe.load(wanted or "pix2pix")
    if wanted is None:
        return Recipe.read(base.recipe, f"of the version {base.id}")
    recipe = Recipe.load(wanted)
    if base.system != recipe.system:
        raise InputError(
            f"The version {base.id} is a {base.system}, the recipe a {recipe.system}.",
            hint="Choose a base of the same system.",
        )
    _require_fit(registry, base, recipe)
    return recipe


def _require_fit(registry: Registry, base: ModelVersion, recipe: Recipe) -> None:
    """Raises `InputError` unless a system of the recipe can take the weights of the base."""
    import tempfile

    from scantwin.learning.weights import Model, load_arrays
    from scantwin.systems import build

    with tempfile.TemporaryDirectory(prefix="scantwin-") as folder:
        model = Model.load(registry.fetch(base.id, folder))
    try:
        load_arrays(build(recipe, seed=0), model.components)
    except InputError as error:
        raise InputError(
            f"The recipe does not fit the version {base.id}: {error.message}",
            hint="Leave out --recipe to train by the base's own, or choose another base.",
        ) from None


def initial_version(registry: Registry, order: Order) -> str:
    """Publishes a freshly built model of the order's recipe; returns its version id."""
    from scantwin.federation.launching import publish_initial
    from scantwin.learning.weights import system_arrays
    from scantwin.systems import build

    components = system_arrays(build(order.recipe, seed=order.seed))
    return publish_initial(registry, order.recipe, components, name=order.name, seed=order.seed)
