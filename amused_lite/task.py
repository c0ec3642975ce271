"""`Task`: one picture that is to be made, as a value. Knows no model and no engine."""

from dataclasses import dataclass, replace
from typing import Self

from amused_lite.editing.canvas import EditCanvas
from amused_lite.files.png import Edit, Recipe
from amused_lite.sampling.settings import GenerateOptions


@dataclass(frozen=True, eq=False)
class Task:
    """What to draw, by which settings and from what. `AmusedPipeline` runs it; `editing.operations` makes edits'."""

    prompt: str
    negative_prompt: str = ""
    options: GenerateOptions = GenerateOptions()  # noqa: RUF009 -- it is frozen
    image_index: int = 0  # number of the picture within its seed
    edit: Edit | None = None  # what is done to the tokens of an earlier picture; None: a new picture
    canvas: EditCanvas | None = None  # how the tokens become the edited picture; None: they are just decoded
    stopped_after: int | None = None  # steps, after which the sampled tokens become the picture; None: all
    trace: bool = False  # have every step carry its log-probabilities

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The tokens of a recipe's picture once more, whichever operation made it.

        Raises:
            ValueError: the recipe is not whole.
        """
        words = recipe.prompt, recipe.negative_prompt
        return cls(*words, recipe.options, recipe.picture, recipe.edit, stopped_after=recipe.stopped_after)

    def at(self, image_index: int, seed: int | None = None) -> Self:
        """The same as another picture of its seed, or of another seed."""
        options = self.options if seed is None else replace(self.options, seed=seed)
        return replace(self, image_index=image_index, options=options)
