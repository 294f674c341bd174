"""What an NNI experiment on a server of ours is, whatever its kind."""

from __future__ import annotations

import logging
from typing import Any

from hwnas.search.service.server import Server

log = logging.getLogger(__name__)


class OwnServer:
    """Mixed into a class of NNI's experiments: its server is ours, see :mod:`hwnas.search.service.server`.

    NNI's own way listens on every interface and writes to HOME.
    """

    config: Any
    port: int | None
    url_prefix: str | None
    _server: Server

    def _start_nni_manager(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        self._server.start(self.config.canonical_copy().json())
        self.port, self.url_prefix = self._server.port, self._server.prefix
        self._tuner_command_channel = self._server.channel
        log.info("NNI's web page: %s", self._server.page)

    def _stop_nni_manager(self) -> None:
        self._server.stop()
