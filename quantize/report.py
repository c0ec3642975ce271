"""Size, speed, memory and agreement of a quantized bundle, measured beside the float one in the same run."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from amused_lite.analysis.measure import BenchmarkCase, measure_in_child
from amused_lite.bundle import COLOURS, MODULES, RANKER_MODULES, TOKENIZER, Bundle, record_files
from amused_lite.conditioning import Conditioning, stack_pair
from amused_lite.export.parity import AGREEMENT_STEPS, Lockstep
from amused_lite.files.safetensors import open_tensors
from amused_lite.runtimes.base import Runtime
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.tokenizer import Tokenizer

TIMED_STEPS = 4  # after one that warms up
LOOK_AT = AGREEMENT_STEPS // 3  # the step whose logits are compared: a third of the way, most tokens still masked


class StepAgreement(NamedTuple):
    """Teacher-forced agreement of the quantized model with the float one."""

    steps: list[float]  # share of masked tokens that both draw alike, step by step, over all prompts
    overall: float  # the same over whole pictures
    logits: float | None  # root mean square of the difference, over that of the logits; None where there are none
    psnr: float  # dB between the pictures of the same tokens; 99 where they are equal

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "agreement_of_steps": [round(share, 4) for share in self.steps],
            "agreement": round(self.overall, 4),
            "worst_step": round(min(self.steps), 4),
            "logits_error": None if self.logits is None else round(self.logits, 4),
            "picture_psnr_db": round(self.psnr, 2),
        }


def likeness(
    leader: Runtime, follower: Runtime, tokenizer: Tokenizer, prompts: Iterable[str], own_text: bool = True
) -> StepAgreement:
    """Both models on the same prompts, teacher-forced: the float one leads.

    Args:
        leader: the float model.
        follower: the quantized one.
        tokenizer: the model's.
        prompts: none that ranges were found with.
        own_text: the follower draws from its own conditioning, so that errors of `encode_prompt` count.
    """
    same: list[list[np.ndarray]] = [[] for _ in range(AGREEMENT_STEPS)]
    logits, psnr = [], []
    for seed, prompt in enumerate(prompts):
        pairs = [_pair(runtime, tokenizer, prompt) for runtime in (leader, follower)]
        for runtime in (leader, follower):
            runtime.release("encode_prompt")
        both = _Lockstep(leader, follower, pairs[1] if own_text else pairs[0])
        options = GenerateOptions(steps=AGREEMENT_STEPS, seed=seed)
        for step in unmask_tokens(both, pairs[0], options):  # type: ignore[arg-type]  # no more is called
            same[step.index].append(both.same[-1])
            if step.index == LOOK_AT and seed == 0:
                logits.append(_logits_error(leader, follower, step.tokens, pairs))
            if step.index == AGREEMENT_STEPS - 1:
                pictures = [runtime.decode_image(step.tokens) for runtime in (leader, follower)]
                psnr.append(_psnr(*pictures))
    shares = [float(np.concatenate(step).mean()) for step in same]
    overall = float(np.concatenate([share for step in same for share in step]).mean())
    return StepAgreement(shares, overall, logits[0], float(np.mean(psnr)))


class _Lockstep(Lockstep):
    """`Lockstep` whose follower has a conditioning of its own."""

    def __init__(self, leader: Runtime, follower: Runtime, own: Conditioning) -> None:
        super().__init__(leader, _With(follower, own))  # type: ignore[arg-type]  # of which `unmask` alone is called


class _With:
    def __init__(self, runtime: Runtime, conditioning: Conditioning) -> None:
        self._runtime, self._conditioning = runtime, conditioning

    def unmask(self, tokens: np.ndarray, _: Conditioning, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        return self._runtime.unmask(tokens, self._conditioning, *rest)


def _pair(runtime: Runtime, tokenizer: Tokenizer, prompt: str) -> Conditioning:
    micro = GenerateOptions().complete(runtime.config).micro_conditioning.array()
    ids = tokenizer.encode(["", prompt])
    return stack_pair(*(runtime.encode_prompt(ids[row : row + 1], micro) for row in range(2)))


def _logits_error(leader: Runtime, follower: Runtime, tokens: np.ndarray, pairs: list[Conditioning]) -> float | None:
    masked = tokens == leader.config.uvit.mask_token_id
    scale = GenerateOptions().complete(leader.config).guidance_scale
    try:
        log_probs = [
            runtime.predict(tokens, pair, scale)[masked]
            for runtime, pair in zip((leader, follower), pairs, strict=True)
        ]
    except ValueError:  # exported without log_probs
        return None
    centred = [row - row.mean(-1, keepdims=True) for row in log_probs]  # logits, but for a number nothing depends on
    return float(np.sqrt(np.square(centred[1] - centred[0]).mean() / np.square(centred[0]).mean()))


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.square(one - other).mean())
    return 99.0 if error < 1e-10 else -10 * float(np.log10(error))


def sizes(bundle: Bundle, modules: Sequence[str]) -> dict[str, int]:
    """Bytes of each module of a bundle, and of what they share; a weight of two modules counts in the first."""
    files = record_files(bundle.folder)
    found: dict[str, int] = {}
    held = MODULES | RANKER_MODULES
    shared = next((name for name in files if name.endswith(".safetensors")), None)
    left = dict(open_tensors(bundle.folder / shared).entries) if shared else {}
    for module in modules:
        own = sum(record.size for name, record in files.items() if name.partition(".")[0] == module)
        names = [name for name in left if name.startswith(held[module])] if shared else []
        found[module] = own + sum(left.pop(name).size for name in names)
    found["tokenizer and colours"] = sum(files[name].size for name in (TOKENIZER, COLOURS) if name in files)
    found["all"] = sum(record.size for record in files.values())
    return found


def stage_figures(model: Path, runtime: str, threads: int | None = None) -> dict[str, float]:
    """Seconds of each stage and the peak of resident memory in MiB, in a process of its own that releases modules.

    Raises:
        ValueError: it failed, and said why.
    """
    case = BenchmarkCase(str(model), runtime, steps=TIMED_STEPS + 1, threads=threads, memory="released", pictures=0)
    try:
        found = measure_in_child(case)
    except ValueError as error:
        raise ValueError(f"{model} could not be measured: {error}") from error
    picture = found.first_picture
    figures = {
        "first_prompt_s": found.opening + picture["encode"],
        "encode_prompt_s": picture["encode"],
        "first_step_s": picture["steps"][0],
        "step_s": median(picture["steps"][1:]),
        "decode_s": found.decode_again or 0.0,
    }
    if found.peak is not None:
        figures["peak_mib"] = found.peak / 2**20
    return {name: round(value, 4) for name, value in figures.items()}


def judge_score(folders: Sequence[Path], judge_path: Path, count: int) -> list[dict[str, list[int]]]:
    """The judge's figures of each model on the first held-out prompts: name -> [right, of]. Minutes for each hundred.

    Raises:
        FileNotFoundError: there is no judge yet.
    """
    from amused_lite.evaluation.evaluate import draw_prompts, judge_pictures
    from amused_lite.evaluation.judge import Judge
    from amused_lite.pipeline import AmusedPipeline
    from amused_lite.training.scenes import heldout_prompts

    judge, prompts, scores = Judge.load(judge_path), heldout_prompts()[:count], []
    for folder in folders:
        pictures = list(draw_prompts(AmusedPipeline.open(folder, keep_loaded=True), prompts))
        scores.append({figure.name: [figure.right, figure.n] for figure in judge_pictures(judge, prompts, pictures)})
    return scores


class Figures(Struct):
    """What is printed of a report."""

    bytes: dict[str, int]
    bytes_of_float: dict[str, int]
    agreement_of_steps: list[float]
    agreement: float
    logits_error: float | None
    picture_psnr_db: float
    measured: dict[str, float] = {}
    measured_of_float: dict[str, float] = {}
    judge: dict[str, tuple[int, int]] = {}
    judge_of_float: dict[str, tuple[int, int]] = {}


class Quantization(Struct):
    """What is printed of a quantized bundle's record."""

    bits: int
    method: str
    report: Figures


def table(figures: Figures) -> str:
    """A bundle's report as lines."""
    size, before = figures.bytes, figures.bytes_of_float
    lines = [f"{'bytes':<24}{'float':>14}{'quantized':>14}"]
    lines += [f"  {name:<22}{before.get(name, 0):>14,}{value:>14,}" for name, value in size.items()]
    shares = " ".join(f"{100 * share:.1f}" for share in figures.agreement_of_steps)
    lines.append(f"tokens drawn alike, step by step: {shares} %; over all {100 * figures.agreement:.1f} %")
    if figures.logits_error is not None:
        lines.append(f"logits: {100 * figures.logits_error:.2f} % away (root mean square)")
    lines.append(f"pictures of the same tokens: {figures.picture_psnr_db:.1f} dB")
    for name, fresh in figures.measured.items():
        old = figures.measured_of_float.get(name, math.nan)
        lines.append(f"  {name:<22}{old:>14.4g}{fresh:>14.4g}")
    for name, (right, count) in figures.judge.items():
        old, _ = figures.judge_of_float.get(name, (0, 0))
        lines.append(f"  judge: {name:<30}{old:>6}{right:>6} of {count}")
    return "\n".join(lines)
