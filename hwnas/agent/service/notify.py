"""What a service tells systemd, see sd_notify(3); nothing where systemd did not start it."""

from __future__ import annotations

import os
import socket
from typing import Mapping, Optional


class Notifier:
    """Sends datagrams to ``$NOTIFY_SOCKET``."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog_s = _watchdog_s(environment) if name else None
        """How long systemd waits for a sign of life; ``None`` where it does not."""

    def tell(self, **assignments: str) -> None:
        """Send ``NAME=value`` lines; what cannot be sent is not: the service matters more than who watches it."""
        if not self._address:
            return
        lines = "\n".join("%s=%s" % item for item in assignments.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(lines.encode(), self._address)
        except OSError:
            return


def _watchdog_s(environment: Mapping[str, str]) -> Optional[float]:
    """The watchdog's time, if it is this process that it watches."""
    given, watched = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not given.isdigit() or int(given) == 0 or (watched and watched != str(os.getpid())):
        return None
    return int(given) / 1e6
