"""`python -m posescale` is the same as the `posescale` command."""

from posescale.cli import main

if __name__ == "__main__":
    main()
