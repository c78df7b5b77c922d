"""``python benchmarks/run.py [--quick] [--write] [--only SECTION …]``: the command behind ``make bench``."""

import sys
from pathlib import Path

# Python put this directory first, where the modules would be found under other names than the tests know them by.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.command import main  # noqa: E402 - needs the line above

if __name__ == "__main__":
    sys.exit(main())
