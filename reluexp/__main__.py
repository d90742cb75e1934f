"""`python -m reluexp` is the command line."""

from reluexp.cli import main

main()
