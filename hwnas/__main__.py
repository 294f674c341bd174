"""``python -m hwnas``: the command line, for launchers such as torchrun."""

from hwnas.cli.main import main

main()
