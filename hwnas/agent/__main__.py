"""``python -m hwnas.agent``, and ``hwnas-agent.pyz``."""

import sys


def main() -> int:
    """The agent itself, how it lives on a board, or what it does on a board that no host reaches."""
    if sys.argv[1:2] in (["hold"], ["attend"]):
        from .lodging import main as lodge

        return lodge(sys.argv[1:])

    if sys.argv[1:2] == ["profile"]:
        if len(sys.argv) != 3:
            sys.stderr.write("usage: hwnas-agent.pyz profile PLAN > RESULTS\n")
            return 2

        from .errand import main as profile

        return profile(sys.argv[2])

    from .server import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
