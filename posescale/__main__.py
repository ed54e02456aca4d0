"""`python -m posescale` is the same as the `posescale` command."""

import sys

from posescale import wheels


def main() -> None:
    """Run the command line, with carried packages where POSESCALE_WHEELS names some."""
    wheels.unpack()
    try:
        from posescale.cli import main as command
    except ModuleNotFoundError as error:
        sys.exit(f"posescale: the package {error.name} is not installed; see docs/install.md, or docs/gpu.md for a "
                 "machine without a network")  # fmt: skip
    command()


if __name__ == "__main__":
    main()
