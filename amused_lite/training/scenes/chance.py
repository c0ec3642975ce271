"""Choices made from `Random.random()` alone, whose sequence Python promises to keep (that of `choice` it does not)."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

Option = TypeVar("Option")


def pick(rng: Random, options: Sequence[Option], chances: Sequence[float] | None = None) -> Option:
    """One of `options`, uniformly or with the given chances (which sum to 1)."""
    draw = rng.random()
    if chances is None:
        return options[int(draw * len(options))]
    for option, chance in zip(options, chances, strict=True):
        draw -= chance
        if draw < 0:
            return option
    return options[-1]


def pick_other(rng: Random, options: Sequence[Option], known: Option) -> Option:
    """One of `options` that is not `known`, uniformly."""
    return pick(rng, [option for option in options if option != known])


def mostly_first(rng: Random, options: Sequence[Option], chance: float) -> Option:
    """The first option with the given chance, else one of the others."""
    return options[0] if rng.random() < chance else pick(rng, options[1:])
