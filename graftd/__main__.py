"""`python -m graftd`."""

from graftd.cli import main

main()
