"""A process that trains along with another one, which started it (posescale.train.team)."""

import json
import sys

from posescale import lifeline
from posescale.errors import PosescaleError
from posescale.train.fit import help_with
from posescale.train.team import Team


def main() -> None:
    """Read a team and a job from standard input and do this process's part."""
    lifeline.follow()
    order = json.load(sys.stdin)
    try:
        help_with(Team(**order["team"]), order["job"])
    except PosescaleError as error:
        sys.exit(f"posescale: {error}")


if __name__ == "__main__":
    main()
