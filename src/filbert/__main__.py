"""`python -m filbert` is `filbert`."""

from filbert.cli.main import main

main()
