"""`amused-lite generate`: a prompt becomes PNG files."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from amused_lite.commands.provenance import open_recorded, read_recorded
from amused_lite.console.arguments import named, whole
from amused_lite.console.flags import (
    add_engine_flags,
    add_output_flags,
    add_prepare_flag,
    add_sampling_flags,
    add_seed_flags,
    check_output,
    keeps_loaded,
    open_pipeline,
    options_from,
    progress,
    recipe_report,
    warn,
)
from amused_lite.files.atomic import slug

if TYPE_CHECKING:
    from pathlib import Path

    from amused_lite.analysis.ranking import Ranker
    from amused_lite.analysis.trace import Decode, Trace
    from amused_lite.files.png import Recipe
    from amused_lite.pipeline import AmusedPipeline, Picture, Watch
    from amused_lite.task import Task

_EXAMPLES = """\
examples:
  amused-lite generate "a red balloon above a blue house in a meadow"
      one picture in outputs/, from a random seed that is printed
  amused-lite generate "a yellow star" -s 7 -o star.png
      the same picture every time
  amused-lite generate "two green trees" --count 4 -o trees/
      four pictures; number 2 alone, later: -s SEED --picture 2
  amused-lite generate "a boat at night" -n "red" --steps 16 --guidance-scale 4
      away from the negative prompt, with more steps and a stronger pull to the prompt
  amused-lite generate --from star.png --steps 24
      that picture's prompt, seed and settings, but for what is said
  amused-lite generate "a blue cup" --best-of 8 --draft-steps 4
      eight quick drafts; the one that fits the prompt best is finished
  amused-lite generate "a yellow star" --maps look/ --film look/star.gif
      how it came about: when each token was fixed, how sure it was, and a film
  amused-lite generate "a cat" -m amused/amused-512
      the published 512x512 model; amused-lite pull prepares it once, and so does --yes here

Existing files are never overwritten: a name that is taken gets a number.
"""
_MOST = 256  # candidates, which are all in memory until the best is known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, named as other programs of this kind name them."""
    parser.description = "Make pictures from a prompt, with the bundled model unless another is named."
    parser.epilog = _EXAMPLES
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to draw, in quotes")
    parser.add_argument("-n", "--negative-prompt", metavar="TEXT", help="what to keep away from")
    parser.add_argument(
        "--from", dest="source", type=named, metavar="FILE", help="take settings from a picture; flags override"
    )
    parser.add_argument("--count", type=whole(1), default=1, metavar="N", help="how many pictures (1)")
    parser.add_argument("-W", "--width", type=int, metavar="PX", help="only the model's own size is possible")
    parser.add_argument("-H", "--height", type=int, metavar="PX", help="likewise")
    others = {action.dest for action in parser._actions}
    add_seed_flags(parser)
    add_sampling_flags(parser)
    settings = {action.dest for action in parser._actions} - others
    best = parser.add_argument_group("the best of several (docs/pictures.md)")
    best.add_argument("--best-of", type=whole(1), default=1, metavar="N", help="make N and keep the best (1)")
    best.add_argument("--draft-steps", type=whole(1), metavar="N", help="make drafts of N steps, and finish the best")
    best.add_argument("--grid", action="store_true", help="write one picture of all candidates instead of the best")
    best.add_argument(
        "--ranker", type=named, metavar="ARCH:FILE", help="an open_clip architecture and its safetensors weights"
    )
    inside = parser.add_argument_group("trace (docs/pictures.md)")
    inside.add_argument(
        "--maps", type=named, metavar="FOLDER", help="write when and how surely each token was fixed, and what else"
    )
    inside.add_argument(
        "--film", type=named, metavar="FILE", help="write the steps as a .gif, or as a strip into a .png"
    )
    inside.add_argument("--quick-film", action="store_true", help="frames from the colour table, which cost nothing")
    add_engine_flags(parser)
    add_prepare_flag(parser)
    add_output_flags(parser)
    # What was not said is then known, so that a file can stand in for it.
    parser.set_defaults(**dict.fromkeys((*settings, "model", "runtime")))


def run(args: argparse.Namespace) -> int:
    """Make the pictures and print a line for each, or one JSON object."""
    started = time.perf_counter()
    folder, name = check_output(args.output)
    _check_trace(args)
    amused, task = _prepare(args)
    name = name or f"{slug(task.prompt)}-{task.options.seed}.png"
    ranker = _ranker(args, amused) if args.best_of > 1 else None
    made = []
    for number in range(args.count):
        one = task.at(task.image_index + number * args.best_of)
        with progress(args.quiet) as watch:
            if ranker is None:
                made.append(_draw(args, amused, one, watch, folder / name))
            else:
                made.append(_draw_best(args, amused, ranker, one, watch, folder / name))
        now = time.perf_counter()
        made[-1]["seconds"] = round(now - started, 3)
        started = now
        if not args.json:
            _print_line(made[-1], args, task)
    if args.json:
        pictures = [{key: value for key, value in one.items() if key != "recipe"} for one in made]
        print(json.dumps({"pictures": pictures, **recipe_report(made[-1]["recipe"])}))
    return 0


def _prepare(args: argparse.Namespace) -> "tuple[AmusedPipeline, Task]":
    """Settle what is to be drawn, out of flags and file, and open the model; the first picture's task."""
    recipe = read_recorded(args.source)[0] if args.source else None
    if recipe is None and args.prompt is None:
        raise ValueError("the following arguments are required: PROMPT, or --from FILE")

    from amused_lite.pipeline import check_prompts
    from amused_lite.task import Task

    prompt, negative_prompt, index = args.prompt, args.negative_prompt, args.picture
    if recipe is not None:
        _warn_incomplete(recipe, args)
        prompt = recipe.prompt if prompt is None else prompt
        negative_prompt = recipe.negative_prompt if negative_prompt is None else negative_prompt
        index = recipe.picture if index is None else index
    options = options_from(args, **({} if recipe is None else vars(recipe.options)))
    task = Task(prompt, negative_prompt or "", options, index or 0, trace=bool(args.maps or args.film))
    check_prompts(task.prompt, task.negative_prompt)
    _check_best(args, task)
    many = keeps_loaded(args, args.count * args.best_of > 1 or bool(args.film))
    if args.model is not None:
        from amused_lite.prepare.ask import prepare_first

        prepare_first([args.model], args.runtime or "auto", args.yes, args.threads, args.device)
    if recipe is None:
        amused = open_pipeline(args, many, args.model or "tiny", args.runtime or "auto")
    else:
        amused = open_recorded(recipe.model, recipe.runtime, args, keep_loaded=many)
    _check_size(args.width, args.height, amused.runtime.config.image_size)
    warn(amused, task.prompt, task.negative_prompt)
    return amused, task


def _warn_incomplete(recipe: "Recipe", args: argparse.Namespace) -> None:
    """Say on stderr what a file's settings alone do not bring back."""
    remarks = []
    if recipe.edit is not None:
        remarks.append(f"it was made by {recipe.edit.operation}; a new picture takes its settings only")
    if recipe.adapters and not args.adapter:
        remarks.append(f"it was made with the adapters {', '.join(recipe.adapters)}; give their files with --adapter")
    for remark in remarks:
        print(f"amused-lite: warning: {args.source}: {remark}", file=sys.stderr)


def _draw(
    args: argparse.Namespace, amused: "AmusedPipeline", task: "Task", watch: "Watch", path: "Path"
) -> dict[str, Any]:
    """One picture, with what else was asked for; its record."""
    if not task.trace:
        return _save(args, amused.run(task, watch), path)
    from amused_lite.analysis.trace import Trace

    seen = watch(amused.steps(task), amused.total_steps(task))
    trace = Trace.of(seen, amused.runtime.config.uvit.mask_token_id)
    record = _write_trace(args, amused, trace)
    return {**_save(args, amused.finish(task, trace.tokens), path), **record}


def _save(args: argparse.Namespace, picture: "Picture", path: "Path") -> dict[str, Any]:
    saved, recipe = picture.save(path, metadata=not args.no_metadata), picture.recipe
    return {"path": str(saved), "seed": recipe.seed, "picture": recipe.picture, "recipe": recipe}


def _draw_best(
    args: argparse.Namespace, amused: "AmusedPipeline", ranker: "Ranker", task: "Task", watch: "Watch", path: "Path"
) -> dict[str, Any]:
    """The best of several pictures from this one on, or a grid of them; its record."""
    from amused_lite.analysis.ranking import as_draft, candidates, finished_draft, grid_picture
    from amused_lite.files.png import save_png

    drafts = args.draft_steps
    first = as_draft(task, drafts) if drafts else task
    ranked = candidates(amused, ranker, [first.at(task.image_index + i) for i in range(args.best_of)], watch)
    scores = {candidate.picture.recipe.picture: round(candidate.score, 4) for candidate in ranked}
    best = ranked[0].picture
    if args.grid:
        grid = save_png(grid_picture(ranked), path, None)
        said = {"seed": task.options.seed, "picture": task.image_index, "recipe": best.recipe, "scores": scores}
        return {"path": str(grid), **said}
    if drafts:
        best = amused.run(finished_draft(task.at(best.recipe.picture), drafts), watch)
    return {**_save(args, best, path), "scores": scores}


def _ranker(args: argparse.Namespace, amused: "AmusedPipeline") -> "Ranker":
    if args.ranker is None:
        from amused_lite.analysis.ranking import OwnRanker

        return OwnRanker(amused)
    from amused_lite.system.extras import require_extra

    require_extra("train", "ranking by open_clip", "torch", "open_clip")
    from amused_lite.models.open_clip_ranker import OpenClipRanker

    return OpenClipRanker(args.ranker)


def _write_trace(args: argparse.Namespace, amused: "AmusedPipeline", trace: "Trace") -> dict[str, Any]:
    """Write maps and film; returns where."""
    from amused_lite.analysis.trace import film_frames, write_film, write_maps

    record: dict[str, Any] = {}
    if args.maps:
        record["maps"] = [str(path) for path in write_maps(trace, amused.decode, args.maps)]
    if args.film:
        frames = film_frames(trace, _film_decode(args, amused), amused.runtime.config.uvit.mask_token_id)
        record["film"] = str(write_film(list(frames), args.film))
    return record


def _film_decode(args: argparse.Namespace, amused: "AmusedPipeline") -> "Decode":
    if not args.quick_film:
        return amused.decode
    from amused_lite.analysis.trace import colour_preview
    from amused_lite.bundle import MANIFEST, open_bundle
    from amused_lite.runtimes.open import find_model, find_prepared

    model = args.model or amused.info.name
    folder = find_prepared(model, args.runtime or "auto") or find_model(model)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is no bundle and has no colour table; leave out --quick-film")
    size = amused.runtime.config.image_size
    return colour_preview(open_bundle(folder).colours(), (size, size))


def _print_line(made: dict[str, Any], args: argparse.Namespace, task: "Task") -> None:
    if args.quiet:
        print(made["path"], flush=True)
        return
    many = args.count * args.best_of > 1 or task.image_index
    number = f"  picture {made['picture']}" if many and not args.grid else ""
    score = f"  score {made['scores'][made['picture']]:.3f}" if "scores" in made and not args.grid else ""
    print(f"{made['path']}  seed {made['seed']}{number}{score}  {made['seconds']:.1f} s", flush=True)
    for path in [*made.get("maps", []), *([made["film"]] if "film" in made else [])]:
        print(path, flush=True)


def _check_trace(args: argparse.Namespace) -> None:
    """Find out before the work what cannot be written or does not go together."""
    if args.film:
        check_output(args.film, ".gif", ".png")
    if args.maps:
        check_output(f"{args.maps}/")
    if args.quick_film and not args.film:
        raise ValueError("--quick-film says how a film is made; add --film FILE")
    if (args.maps or args.film) and args.best_of > 1:
        raise ValueError("--maps and --film look at one picture; leave out --best-of, and give --picture of the best")


def _check_best(args: argparse.Namespace, task: "Task") -> None:
    if args.best_of > _MOST:
        raise ValueError(f"--best-of must be at most {_MOST}, got {args.best_of}")
    for flag, given in (("--draft-steps", args.draft_steps), ("--grid", args.grid), ("--ranker", args.ranker)):
        if given and args.best_of == 1:
            raise ValueError(f"{flag} is for choosing among several pictures; add --best-of N")
    if args.draft_steps:
        from amused_lite.analysis.ranking import as_draft

        as_draft(task, args.draft_steps)


def _check_size(width: int | None, height: int | None, size: int) -> None:
    for flag, value in (("-W", width), ("-H", height)):
        if value is not None and value != size:
            raise ValueError(f"this model makes {size}x{size} pictures, got {flag} {value}; leave -W and -H out")
