"""`python -m adaptfocus` is the `adaptfocus` command."""

from adaptfocus.infra.cli import main

main()
