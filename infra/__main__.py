"""`python -m infra` is the `adaptfocus` command."""

from infra.cli import main

main()
