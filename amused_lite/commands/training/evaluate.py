"""`amused-lite evaluate`: the held-out prompts, the judge's figures and the contact sheet of a model."""

import argparse
import json

from amused_lite.console.arguments import named, present, whole
from amused_lite.console.flags import add_engine_flags, add_sampling_flags, check_output, keeps_loaded, open_pipeline
from amused_lite.system.extras import require_extra

EXAMPLES = """
examples:
  amused-lite evaluate --sheet sheet.png            the bundled model on 300 held-out prompts
  amused-lite evaluate -m runs/tiny/bundle --count 60
  amused-lite evaluate --calibrate                  what the judge itself can do: drawings, codebook, shuffled pairs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate`."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--count", type=whole(1, 100_000), default=300, help="how many held-out prompts (default: %(default)s)"
    )
    parser.add_argument("--sheet", type=named, help="write the first 24 pictures, with their prompts, to this PNG")
    parser.add_argument(
        "--judge", type=present, help="the judge's weights (in the cache; taught once, in about 8 minutes)"
    )
    parser.add_argument("--calibrate", action="store_true", help="also print what the judge says of known pictures")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_sampling_flags(parser)
    add_engine_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Draw, judge and print."""
    require_extra("train", "evaluate", "torch", "skia")
    from amused_lite.sampling.settings import GenerateOptions

    chosen = {name: getattr(args, name, None) for name in GenerateOptions.__dataclass_fields__}
    options = {name: value for name, value in chosen.items() if value is not None}
    GenerateOptions(**options)  # says what is wrong with them before a judge is taught
    sheet = None
    if args.sheet is not None:
        folder, name = check_output(args.sheet)
        if not name:
            raise ValueError(f"--sheet {args.sheet} must be a file that ends in .png")
        sheet = folder / name
    from tqdm import tqdm

    from amused_lite.evaluation import evaluate
    from amused_lite.evaluation.judge import Judge
    from amused_lite.evaluation.judge_training import default_judge_path, train_judge
    from amused_lite.evaluation.metrics import calibrate, table
    from amused_lite.training.scenes import heldout_prompts

    keep = keeps_loaded(args, True)
    amused = open_pipeline(args, keep)
    GenerateOptions(**options).complete(amused.runtime.config)
    judge_path = args.judge or default_judge_path()
    judge = Judge.load(judge_path) if judge_path.exists() else train_judge(path=judge_path)
    prompts = heldout_prompts()[: args.count]
    drawn = tqdm(evaluate.draw_prompts(amused, prompts, **options), total=len(prompts), unit="picture")
    pictures = list(drawn)
    if sheet is not None:
        evaluate.sheet_of(prompts, pictures, sheet)
    columns = {amused.info.name: evaluate.judge_pictures(judge, prompts, pictures)}
    if args.calibrate:
        columns |= calibrate(judge, prompts, evaluate.reconstruction(amused))
    if args.json:
        print(json.dumps({name: {f.name: [f.right, f.n] for f in figures} for name, figures in columns.items()}))
    else:
        print(table(columns))
    return 0
