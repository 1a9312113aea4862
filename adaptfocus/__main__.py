"""`python -m adaptfocus` is the `adaptfocus` command."""

from adaptfocus.infra.cli.app import main

main()
