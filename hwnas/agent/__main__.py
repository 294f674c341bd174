"""``python -m hwnas.agent``, and ``hwnas-agent.pyz``."""

import sys


def main() -> int:
    """The agent itself, or how it lives on a board."""
    if sys.argv[1:2] in (["hold"], ["serve"]):
        from .lodging import main as lodge

        return lodge(sys.argv[1:])

    from .server import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
