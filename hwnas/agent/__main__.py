"""``python -m hwnas.agent``, and ``hwnas-agent.pyz``."""

import importlib
import sys

ON_A_BOARD = {"serve": ".service.main", "pull": ".slots.pull", "slots": ".slots.command"}
"""Commands for the board itself to the module whose ``main`` takes what follows on the command line."""


def main() -> int:
    """The agent itself, how it lives on a board, or what a board does without a host."""
    command = "".join(sys.argv[1:2])
    if command in ("hold", "attend"):
        from .lodging import main as lodge

        return lodge(sys.argv[1:])

    if command == "profile":
        if len(sys.argv) != 3:
            sys.stderr.write("usage: hwnas-agent.pyz profile PLAN > RESULTS\n")
            return 2

        from .errand import main as profile

        return profile(sys.argv[2])

    if command in ON_A_BOARD:
        return int(importlib.import_module(ON_A_BOARD[command], __package__).main(sys.argv[2:]))

    from .server import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
