"""Which form each weight takes: the scheme, the same for every format that lets us choose. Knows no format.

What is said here was measured on the bundled model (docs/quantization.md); the manifest carries what was decided.
"""

from fnmatch import fnmatchcase
from math import prod
from typing import Any, NamedTuple

from amused_lite.quantization import block_of

from .options import QuantizeOptions

LINEAR, TABLE, CONVOLUTION, TRANSPOSED = "linear", "table", "convolution", "transposed"
BLOCK = 64  # numbers that share a scale in 4 bits
_SMALLEST = 4096  # weights; what is smaller costs more in graph than it saves
_SMALLEST_IN_4 = {LINEAR: 0, TABLE: 2**24, CONVOLUTION: 2**20}  # below, 4-bit bundles take 8 bits
# What stays float16 everywhere: codes decide between near twins, positions are added once.
_FLOAT = ("vqgan.codebook", "*.positions", "vqgan.decoder.out.weight", "vqgan.encoder.*", "vqgan.pre_quant.*")
# Products whose activations are rounded as well, where the method rounds any. They hold nearly all of the work; the
# convolutional blocks around them have outliers, which the bundled model pays for with two tokens in a hundred.
ACTIVATIONS = ("uvit.token_side.layers.*", "vqgan.decoder.*")
_HIGHER: tuple[str, ...] = ("uvit.token_side.head.weight", "uvit.token_side.embedding_projection.weight")


class WeightFormat(NamedTuple):
    """How a weight is stored: see `amused_lite.quantization`. A block of 0 is the dense form, one scale a row."""

    bits: int
    block: int = 0


class QuantizationScheme:
    """Chooses each weight's format, and records what was chosen."""

    def __init__(self, options: QuantizeOptions) -> None:
        self.options = options
        self._decided: dict[str, dict[str, Any]] = {}

    def format_of(
        self, module: str, name: str, kind: str, shape: tuple[int, ...], least: int = 0, remember: bool = True
    ) -> WeightFormat | None:
        """The form of one weight, None for float16.

        Args:
            module: of the bundle.
            name: of the weight, such as "uvit.token_side.head.weight".
            kind: what uses it: `LINEAR` (out, in), `TABLE` (entries, width), `CONVOLUTION` (out, in, h, w) or
                `TRANSPOSED` (in, out, h, w).
            shape: its own.
            least: smallest block that will do; a weight whose rows have no such block takes 8 bits.
            remember: put it into the record.
        """
        form = self._form(name, kind, shape, least)
        if not remember:
            return form
        record = self._decided.setdefault(module, {"float16": []})
        if form is None:
            record["float16"].append(name)
        else:
            label = f"{form.bits} bits, " + (f"a scale for {form.block}" if form.block else "a scale a row")
            record[label] = record.get(label, 0) + prod(shape)
        return form

    def rounds_activations(self, name: str) -> bool:
        """Whether what a weight is multiplied with may be rounded too."""
        return any(fnmatchcase(name, pattern) for pattern in ACTIVATIONS)

    def _form(self, name: str, kind: str, shape: tuple[int, ...], least: int) -> WeightFormat | None:
        options, size = self.options, prod(shape)
        depthwise = kind == CONVOLUTION and shape[1] == 1
        kept = (*_FLOAT, *options.keep)
        if size < _SMALLEST or depthwise or any(fnmatchcase(name, pattern) for pattern in kept):
            return None
        length = size // shape[1 if kind == TRANSPOSED else 0]
        higher = any(fnmatchcase(name, pattern) for pattern in _HIGHER)
        if options.bits < 8 and size >= _SMALLEST_IN_4.get(kind, size + 1) and not higher:
            if options.target == "coreml":  # its palettes have no blocks
                return WeightFormat(options.bits)
            block = block_of(length, BLOCK)
            if block and block >= least:
                return WeightFormat(4, block)
        return WeightFormat(8)

    def record(self) -> dict[str, dict[str, Any]]:
        """For the manifest: module -> form -> how many weights, and the names of those that stay float16."""
        return self._decided
