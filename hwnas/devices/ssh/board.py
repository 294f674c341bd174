"""A board that a session has for itself."""

from __future__ import annotations

import asyncio
import time

import asyncssh

from hwnas.agent.lodging import LEASE_S, RETURN_S
from hwnas.devices.errors import InUseError, UnreachableError
from hwnas.devices.ssh.delivery import DeliveredAgent, read_message
from hwnas.devices.ssh.loop import LoopThread
from hwnas.devices.ssh.process import RemoteProcess
from hwnas.errors import DeviceError

_ANSWERS_WITHIN_S = 20.0
_KEEP_EVERY_S = LEASE_S / 6


class Board:
    """The board's lease, and the agents that are started under it."""

    def __init__(
        self,
        loop: LoopThread,
        connection: asyncssh.SSHClientConnection,
        where: str,
        agent: DeliveredAgent,
        session: str,
        owner: str,
    ) -> None:
        """Take the board; if a lease of somebody who left is about to end, wait for that.

        Raises:
            InUseError: another session has it.
            UnreachableError: the connection broke.
        """
        self._loop, self._connection, self._where = loop, connection, where
        self._agent, self._session = agent, session
        self._holder = self._held(owner)
        self._keeping = loop.start(self._keep())

    @property
    def alive(self) -> bool:
        """Whether the connection is there and the board is this session's."""
        return self._holder.alive

    def start_agent(self) -> RemoteProcess:
        """A new agent, in place of the one before."""
        return self._run("attend", self._session)

    def kill_agent(self) -> None:
        """End the agent with all that it started; one that cannot be reached any more, the board ends itself."""
        self._tell("kill")

    def close(self) -> None:
        """Let go of the board."""
        self._keeping.cancel()
        self._tell("end")
        self._holder.leave()

    def _held(self, owner: str) -> RemoteProcess:
        patience_s = RETURN_S
        while True:
            holder = self._run("hold", self._session, owner)
            reply = read_message(holder, self._where, _ANSWERS_WITHIN_S)
            if reply is not None and "ready" in reply:
                return holder
            holder.close()
            if reply is None:
                words = holder.last_words().strip().splitlines()[-1:] or [holder.end()]
                raise UnreachableError(f"The agent on {self._where} did not start: {words[0]}.")
            if "error" in reply:
                raise DeviceError(f"{self._where} cannot lodge the agent ({reply['error']}).")
            if reply["seconds"] > patience_s:
                raise InUseError(
                    f"{self._where} is in use by {reply['held_by']}; wait until that is done"
                    f" (if it died, {reply['seconds']:.0f} s from now)."
                )
            patience_s -= reply["seconds"]
            time.sleep(max(0.1, reply["seconds"]))

    def _run(self, *arguments: str) -> RemoteProcess:
        try:
            return RemoteProcess(self._loop, self._connection, self._agent.command(*arguments))
        except (OSError, asyncssh.Error, TimeoutError) as error:
            raise UnreachableError(f"The connection to {self._where} broke ({error}).") from error

    def _tell(self, command: str) -> None:
        """Have the holder do something, as far as it can be reached."""
        if not self._holder.alive:
            return
        self._holder.write(command.encode() + b"\n")
        try:
            self._holder.read_line(_ANSWERS_WITHIN_S)
        except TimeoutError:
            self._holder.close()  # the wire is dead, or the board; the next agent comes by another connection

    async def _keep(self) -> None:
        while self._holder.alive:
            await asyncio.sleep(_KEEP_EVERY_S)
            self._holder.write(b"keep\n")
