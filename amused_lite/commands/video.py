"""`amused-lite video`: a prompt becomes a moving picture."""

import argparse
import json
import time

from amused_lite.console.arguments import named
from amused_lite.console.flags import (
    add_engine_flags,
    add_sampling_flags,
    add_seed_flags,
    check_output,
    keeps_loaded,
    open_pipeline,
    options_from,
    warn,
)
from amused_lite.files.atomic import slug

_EXAMPLES = """\
examples:
  amused-lite video "a red balloon above a blue house" -o balloon.gif
      ten frames that glide to the right
  amused-lite video "a boat at sea" --right -6 --zoom 1.02 --frames 20 -o boat.mp4
      to the left, and closer (MP4 needs the video extra)
  amused-lite video "a house in a meadow" "a house in the snow" --right 0 --zoom 0.98 -o winter.gif
      a key frame for each prompt; the second is drawn over the first
  amused-lite video "a yellow star at night" --redraw-steps 3 -o alive.gif
      every frame drawn a little anew, as the paper does

The same seed and settings give the same frames. Existing files are never overwritten.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `video`."""
    parser.description = "Make a short video: key frames, one for each prompt, that move (docs/pictures.md)."
    parser.epilog = _EXAMPLES
    parser.add_argument("prompt", metavar="PROMPT", nargs="+", help="what to draw, in quotes; one for each key frame")
    parser.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="what to keep away from")
    motion = parser.add_argument_group("motion, in each frame")
    motion.add_argument("--frames", type=int, default=10, metavar="N", help="frames for each key frame (10)")
    motion.add_argument("--right", type=float, default=8.0, metavar="PX", help="to the right; negative: left (8)")
    motion.add_argument("--down", type=float, default=0.0, metavar="PX", help="down; negative: up (0)")
    motion.add_argument("--zoom", type=float, default=1.0, metavar="F", help="factor; above 1 comes closer (1)")
    motion.add_argument("--redraw-steps", type=int, default=0, metavar="N", help="steps to run again (0)")
    motion.add_argument("--refresh", type=float, default=0.9, metavar="S", help="strength of later key frames (0.9)")
    add_seed_flags(parser)
    add_sampling_flags(parser)
    add_engine_flags(parser)
    report = parser.add_argument_group("output")
    report.add_argument(
        "-o", "--output", type=named, default="outputs", metavar="PATH", help=".gif, .mp4, or a folder (outputs)"
    )
    report.add_argument("--rate", type=float, default=8.0, metavar="N", help="frames in a second (8)")
    report.add_argument("--no-metadata", action="store_true", help="leave the settings out of the file")
    report.add_argument("--json", action="store_true", help="print one JSON object")
    report.add_argument("-q", "--quiet", action="store_true", help="no progress, and only the path is printed")


def run(args: argparse.Namespace) -> int:
    """Draw the frames, write the file, print where it is."""
    started = time.perf_counter()
    folder, name = check_output(args.output, ".gif", ".mp4")
    if name.lower().endswith(".mp4"):
        from amused_lite.system.extras import require_extra

        require_extra("video", "writing MP4", "av")
    if not 1 <= args.rate <= 60:
        raise ValueError(f"rate must be 1 to 60 frames a second, got {args.rate:g}")

    from tqdm import tqdm

    from amused_lite.analysis.video import Motion, describe, make_frames, write_video

    fields = Motion.__dataclass_fields__
    motion = Motion(**{field: getattr(args, field) for field in fields})
    options = options_from(args)
    keep = keeps_loaded(args, True)
    amused = open_pipeline(args, keep)
    for prompt in args.prompt:
        warn(amused, prompt, args.negative_prompt)
    total = len(args.prompt) * motion.frames
    frames = make_frames(amused, args.prompt, args.negative_prompt, options, motion, args.picture)
    hidden = True if args.quiet else None  # None: hidden where stderr is no terminal
    images = [frame.image for frame in tqdm(frames, total=total, unit="frame", leave=False, disable=hidden)]
    comment = "" if args.no_metadata else describe(args.prompt, args.negative_prompt, options, motion)
    path = write_video(images, folder / (name or f"{slug(args.prompt[0])}-{options.seed}.gif"), args.rate, comment)
    seconds = round(time.perf_counter() - started, 3)
    if args.json:
        print(json.dumps({"path": str(path), "seed": options.seed, "frames": total, "seconds": seconds}))
    else:
        print(path if args.quiet else f"{path}  seed {options.seed}  {total} frames  {seconds:.1f} s")
    return 0
