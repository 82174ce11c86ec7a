"""`python -m acredssp`: the command line."""

from acredssp.cli import main

main()
