"""In which order samples are shown: a keyed permutation, so that a number alone says where a training is.

A training shows a stream of samples, place 0, 1, 2 ... Which sample stands at a place follows from the seed and the
place, and nothing is remembered between places: any number of processes can each take their own, and a training that
goes on needs the number of samples shown. Within an epoch every sample comes exactly once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
_ROUNDS = 6
_UNITS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)  # of splitmix64's finaliser (Steele et al. 2014)


def permuted(numbers: Numbers, size: int, seed: int, epoch: int) -> Numbers:
    """Where a permutation of 0 ... size - 1, chosen by (seed, epoch), sends these numbers.

    A Feistel network (Luby and Rackoff 1988) over the next even power of two; what it sends beyond `size` goes through
    it again until it is inside, which keeps it a permutation (Black and Rogaway 2002).
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(_ROUNDS)
    made, outside = numbers.astype(np.uint64), np.ones(len(numbers), bool)
    while outside.any():
        left, right = made[outside] >> half, made[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        made[outside] = (left << half) | right
        outside = made >= size
    return made.astype(np.int64)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _UNITS[0]
    x = (x ^ (x >> np.uint64(27))) * _UNITS[1]
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class EpochOrder:
    """Which of `size` samples stands at each place of the stream.

    `first` and `growth` are for samples that are still being made: `first` exist at the start, `growth` more for every
    sample shown. An epoch shows those that exist when it begins.
    """

    seed: int
    size: int
    first: int | None = None
    growth: float = 0.0

    def samples(self, place: int, count: int) -> Numbers:
        """The samples at `count` places from `place` on."""
        parts: list[Numbers] = [np.zeros(0, np.int64)]
        while count:
            start, epoch, size = self._epoch_at(place)
            taken = min(count, start + size - place)
            parts.append(permuted(np.arange(place - start, place - start + taken), size, self.seed, epoch))
            place, count = place + taken, count - taken
        return np.concatenate(parts)

    def _epoch_at(self, place: int) -> tuple[int, int, int]:
        """The first place, the number and the size of the epoch that a place is in."""
        start, epoch, size = 0, 0, min(self.size, self.first or self.size)
        while size < self.size and start + size <= place:
            start, epoch = start + size, epoch + 1
            size = min(self.size, int((self.first or 0) + self.growth * start))
        if size == self.size:  # all there: every epoch from here on is as long
            passed = (place - start) // size
            start, epoch = start + passed * size, epoch + passed
        return start, epoch, size
