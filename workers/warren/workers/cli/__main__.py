"""`python -m warren.workers.cli` is `warren`, for a Python whose scripts are not on the path."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
