"""`amused-lite tokenize`: pictures with captions to shards of tokens, which finetune learns from."""

import argparse

from amused_lite.console.arguments import check_folder, named, number, path, threads, whole
from amused_lite.system.extras import require_extra

_EXAMPLES = """\
sources:
  a folder         pictures, each with its caption in a text file of the same name (a.png, a.txt), or all captions in a
                   metadata.jsonl with lines like {"file_name": "a.png", "text": "a boat", "aesthetic_score": 6.1}
  tar files        webdataset's: a folder of them, one, a pattern such as data/{00000..00099}.tar, or an address that
                   webdataset opens (http:, pipe:); in each KEY.jpg with KEY.txt or KEY.json
  storybook, scenes    a world drawn by code; --pictures says how many

examples:
  amused-lite tokenize pictures/ out/data
  amused-lite tokenize "laion/{00000..00999}.tar" out/laion -m amused/amused-512 --device cuda --workers 2
  amused-lite tokenize scenes out/scenes --pictures 2000
  amused-lite tokenize "laion/{00000..60580}.tar" /shared/laion -m amused/amused-256 --device cuda --workers 64 \\
      --ray ray://head:10001

Every picture is encoded once; training reads tokens only. What is dropped is counted by reason. The work may be stopped
or killed at any moment: the same command goes on with the first shard that is not whole. Thresholds are those published
for aMUSEd's data; a score that nobody measured drops nothing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `tokenize`."""
    parser.description = "Turn pictures with captions into shards of tokens."
    parser.epilog = _EXAMPLES
    parser.add_argument("source", type=named, metavar="SOURCE", help="where the pictures are, see below")
    parser.add_argument("out", type=path, metavar="OUT", help="the folder of shards to make, or to go on with")
    parser.add_argument("-m", "--model", type=named, default="tiny", metavar="MODEL", help="whose tokens (tiny)")
    parser.add_argument("--pictures", type=whole(1), metavar="N", help="how many, of a drawn world")
    choice = parser.add_argument_group("which pictures")
    choice.add_argument(
        "--aesthetic", type=number(-10, 10), default=4.5, metavar="A", help="score of at least (%(default)s)"
    )
    choice.add_argument(
        "--watermark", type=number(0, 1), default=0.5, metavar="P", help="probability of at most (%(default)s)"
    )
    choice.add_argument(
        "--unsafe", type=number(0, 1), default=0.45, metavar="P", help="probability of at most (%(default)s)"
    )
    choice.add_argument("--clip-score", type=number(-1, 1), metavar="C", help="of picture and caption, at least (any)")
    choice.add_argument("--side", type=whole(0), metavar="PX", help="short side of at least (half of the model's)")
    choice.add_argument(
        "--random-crops", type=whole(0, 1000), default=0, metavar="N", help="of each picture; 0: its middle (0)"
    )
    choice.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help="of random crops (0)")
    machine = parser.add_argument_group("where it runs")
    machine.add_argument("--workers", type=whole(1, 4096), default=1, metavar="N", help="processes (1)")
    machine.add_argument("--device", type=named, default="cpu", metavar="NAME", help="cpu or cuda (cpu)")
    machine.add_argument("--threads", type=threads, metavar="N", help="processor threads of a process (all)")
    machine.add_argument(
        "--ray", type=named, metavar="ADDRESS", help="of a Ray cluster that does the work; local starts one here"
    )


def run(args: argparse.Namespace) -> int:
    """Find, encode, count."""
    require_extra("train", "tokenize", "torch", "accelerate")
    if args.ray:
        require_extra("cluster", "a cluster", "ray")
    check_folder(args.out)
    from amused_lite.training.data.pictures import SampleFilter, find_source
    from amused_lite.training.data.tokenize import TokenizeJob, tokenize
    from amused_lite.training.loop.fit import use_threads
    from amused_lite.training.presets import WORLDS

    use_threads(args.threads)
    worlds = {name: lambda build=build: build(args.out).world for name, build in WORLDS.items()}
    source = find_source(args.source, worlds, args.out, args.pictures)
    choice = SampleFilter(
        args.aesthetic, args.watermark, args.unsafe, args.clip_score, args.side, args.random_crops, args.seed
    )
    job = TokenizeJob(args.model, source, choice, args.out, args.device, args.threads)
    manifest = tokenize(job, args.workers, args.ray)
    for reason, count in manifest.dropped.items():
        print(f"dropped {count}: {reason}")
    if not manifest.count:
        raise ValueError(f"no picture of {args.source} was kept; see --help for captions and thresholds")
    print(f"{args.out}  {manifest.count} samples of {manifest.tokens} tokens in {manifest.pieces} shards")
    return 0
