"""`optimum-cli export amused-lite`, installed as optimum/commands/register/register_amused_lite.py.

optimum imports it at every start, so all but the declaration is imported when the command runs. Its TasksManager is
left alone: that table serves exporters which trace transformers' models, and finds nothing to trace here.
"""

import argparse

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class AmusedLiteExportCommand(BaseOptimumCLICommand):
    """The same export as `amused-lite export`, in optimum's words."""

    COMMAND = CommandInfo(name="amused-lite", help="Export an aMUSEd model to ONNX, OpenVINO, Core ML or ExecuTorch.")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Declare the options, which are those of `amused-lite export`."""
        from amused_lite.bundle import TARGETS
        from amused_lite.commands.export import add_options

        parser.add_argument(
            "-m", "--model", default="tiny", help="tiny (default), a bundle, a diffusers folder, a hub id"
        )
        parser.add_argument("--target", required=True, choices=TARGETS, help="what to export to")
        parser.add_argument("out", metavar="OUT", help="the bundle folder to make")
        add_options(parser)

    def run(self) -> None:
        """Export; what a user can cause is one line and exit code 2."""
        from amused_lite.commands import export
        from amused_lite.console.errors import guard

        args = self.args
        assert args is not None  # optimum parses before it runs
        raise SystemExit(guard(lambda: export.run(args)))


# Read once and then empty. optimum reads this module once for every such folder on Python's path (two where both an
# environment and the one below it hold amused-lite) and stops at a command that comes twice.
REGISTER_COMMANDS = iter([(AmusedLiteExportCommand, ExportCommand)])
