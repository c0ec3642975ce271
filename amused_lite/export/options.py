"""What an export may be asked for, checked before any work. Knows no torch and no format's library."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from amused_lite.bundle import MODULES, RANKER_MODULES, TARGETS
from amused_lite.runtimes.coreml import advised_units
from amused_lite.system.extras import require_extra

PRECISIONS = ("float32", "float16")
OPSETS = range(18, 24)
DEPLOYMENT_TARGETS = ("iOS16", "iOS17", "iOS18")


class Needs(NamedTuple):
    """Modules that a target needs installed, and the memory that its export takes."""

    packages: tuple[str, ...]
    # Peak memory of exporting amused-512, over the float32 weights of its largest module: measured, see docs/export.md.
    memory: float


NEEDS = {
    "onnx": Needs(("onnx", "onnxscript", "onnxruntime"), 4.0),
    "openvino": Needs(("openvino",), 4.0),
    "coreml": Needs(("coremltools",), 6.0),
    "executorch": Needs(("executorch",), 7.6),
}


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for.

    Raises:
        ValueError: a choice is unknown, or the target does not offer it.
    """

    target: str = "onnx"
    precision: str = "float16"  # how the weights are stored; Core ML and ExecuTorch also compute in it
    opset: int = 20  # of ONNX; 20 is the first with Gelu
    single_file: bool = False  # ONNX: weights inside each graph
    deployment_target: str = "iOS18"  # of Core ML
    log_probs: bool = True  # output the log-probabilities of every token, for top-k, top-p and traces

    def __post_init__(self) -> None:
        for what, value, known in (
            ("target", self.target, TARGETS),
            ("precision", self.precision, PRECISIONS),
            ("deployment target", self.deployment_target, DEPLOYMENT_TARGETS),
        ):
            if value not in known:
                raise ValueError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.opset not in OPSETS:
            raise ValueError(f"opset {self.opset} is not supported; choose {OPSETS[0]} to {OPSETS[-1]}")
        if self.single_file and self.target != "onnx":
            raise ValueError(
                f"{self.target} always keeps a module's weights in its own files; --single-file is for onnx"
            )

    @property
    def free_rows(self) -> bool:
        """Whether `unmask` takes one row of conditioning as well as two, and so saves half when it is not guided."""
        return self.target in ("onnx", "openvino") or (self.target == "coreml" and self.deployment_target == "iOS18")

    def precision_of(self, module: str) -> str:
        """How one module's weights are stored.

        XNNPACK's convolutions keep float32, whatever goes in and out, and its float16 lost the text tower of full size:
        outputs of torch's own float16 were 0.002 away, its were 1.6. For ExecuTorch, `unmask` alone is in half.
        """
        return "float32" if self.target == "executorch" and module != "unmask" else self.precision

    def computes_in_half(self, module: str) -> bool:
        """Whether a module's arithmetic is float16 too; ONNX and OpenVINO store float16 and compute in float32."""
        return self.precision_of(module) == "float16" and self.target in ("coreml", "executorch")

    def record(self) -> dict[str, Any]:
        """For the manifest: what matters to this target."""
        own = {"onnx": ("opset", "single_file"), "coreml": ("deployment_target",)}
        values = asdict(self)
        record = {name: values[name] for name in (*own.get(self.target, ()), "log_probs")}
        if self.target == "coreml":
            modules = (*MODULES, *RANKER_MODULES)
            record["compute_units"] = {module: advised_units(module, self.precision) for module in modules}
        return record


def require_target(target: str) -> None:
    """Raise MissingExtraError unless everything is installed that exports to this target."""
    require_extra("export", f"export to {target}", "torch", "safetensors", "psutil", *NEEDS[target].packages)
