"""`python -m amused_lite`: the same as the `amused-lite` command."""

import sys

from amused_lite.cli import main

sys.exit(main())
