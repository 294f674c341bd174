"""SSH connections to a board, through whatever lies before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncssh

from hwnas.devices.errors import UnreachableError
from hwnas.devices.ssh.keys import read_key, usable_identities
from hwnas.devices.ssh.known_hosts import KnownHosts, address
from hwnas.devices.ssh.loop import LoopThread
from hwnas.devices.target import Ssh
from hwnas.errors import DeviceError, UserError
from hwnas.questions import Questions

_OWN_CONFIGURATION = "~/.ssh/config"
_CONNECTS_WITHIN_S = 15
_LOGS_IN_WITHIN_S = 30
_ANSWERS_WITHIN_S = _CONNECTS_WITHIN_S + _LOGS_IN_WITHIN_S + 5
_KEEPALIVE_S, _KEEPALIVES_MISSED = 10, 2
_TRIES = 3
_HOP = re.compile(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<bracketed>[^]]+)\]|(?P<host>[^:@\s]+))(?::(?P<port>\d+))?")

asyncssh.set_log_level("WARNING")  # below it tells every command, in the logs of whoever listens to all


@dataclass(frozen=True)
class Hop:
    """A host on the way, or the board; what is ``None``, the client configuration says."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """``[user@]host[:port]``, an IPv6 address in brackets.

        Raises:
            UserError: it is something else.
        """
        found = _HOP.fullmatch(text.strip())
        if found is None:
            raise UserError(f"A host is named [user@]host[:port], not '{text}'.")
        port = found["port"]
        return cls(found["bracketed"] or found["host"], found["user"], int(port) if port else None)


class Dialler:
    """Opens connections to one board, asks what only a person knows, and asks it once."""

    def __init__(self, loop: LoopThread, settings: Ssh, questions: Questions) -> None:
        self._loop, self._settings, self._questions = loop, settings, questions
        self._passwords: dict[Hop, str] = {}
        self._keys: list[asyncssh.SSHKey] | None = None
        self._left_out: list[str] = []
        """Identities of the client configuration that could not be used, and why."""

    def dial(self, hop: Hop, jumps: list[Hop] | None = None) -> list[asyncssh.SSHClientConnection]:
        """Connections to the hosts on the way to ``hop`` and to itself, which is the last.

        Args:
            hop: where to.
            jumps: what to go through; ``None``: what the client configuration says.

        Raises:
            UnreachableError: nobody answers there.
            DeviceError: the host's key or our identity was not accepted.
            UserError: the client configuration, a key or ``known_hosts`` is wrong.
        """
        options = self._options(hop)
        if jumps is None:
            jumps = [Hop.parse(part) for part in str(options.tunnel or "").split(",") if part not in ("", "none")]
        way: list[asyncssh.SSHClientConnection] = []
        try:
            for jump in jumps:
                way.append(self._log_in(jump, self._options(jump), way[-1] if way else None))
            way.append(self._log_in(hop, options, way[-1] if way else None))
        except BaseException:
            hang_up(self._loop, way)
            raise
        return way

    def _options(self, hop: Hop) -> asyncssh.SSHClientConnectionOptions:
        asked: dict[str, Any] = {
            "host": hop.host,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "connect_timeout": _CONNECTS_WITHIN_S,
            "login_timeout": _LOGS_IN_WITHIN_S,
        }
        if hop.user is not None:
            asked["username"] = hop.user
        if hop.port is not None:
            asked["port"] = hop.port
        # asyncssh would read the user's own file when it connects, which is too late for the name of the host's key.
        asked["config"] = self._configuration()
        try:
            keys = {"client_keys": self._client_keys()} if self._settings.keys else self._identities(asked)
            return asyncssh.SSHClientConnectionOptions(**asked, **keys)
        except (OSError, ValueError) as error:  # asyncssh's own errors of keys and configurations are ValueErrors
            raise UserError(f"The SSH client configuration cannot be used ({error}); mend it.") from error

    def _configuration(self) -> str | None:
        """The client configuration's file; ``None``: there is none."""
        if self._settings.config is not None:
            return str(Path(self._settings.config).expanduser())
        own = Path(_OWN_CONFIGURATION).expanduser()
        return str(own) if own.is_file() else None

    def _identities(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The options for the keys that the client configuration names, if it names any."""
        config = asyncssh.SSHClientConnectionOptions(**asked, client_keys=None).config
        named: Any = config.get("IdentityFile")
        if not named:
            return {}
        only = bool(config.get("IdentitiesOnly"))
        usable, self._left_out = usable_identities(named, only)
        if usable or not only:
            return {"client_keys": usable, "ignore_encrypted": True}
        return {"client_keys": [], "agent_path": None}

    def _client_keys(self) -> list[asyncssh.SSHKey]:
        if self._keys is None:
            self._keys = [read_key(Path(name).expanduser(), self._questions) for name in self._settings.keys]
        return self._keys

    def _log_in(
        self, hop: Hop, options: asyncssh.SSHClientConnectionOptions, through: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        name = address(options.host, options.port)
        known = KnownHosts(options.host_key_alias or name, [*(options.known_hosts or ())])  # type: ignore[misc]
        where = f"{options.username}@{name}"
        asked = 0
        while True:
            client = _Client()
            try:
                return self._loop.run(
                    _connect(hop, options, known, client, through, self._passwords.get(hop)), _ANSWERS_WITHIN_S
                )
            except asyncssh.HostKeyNotVerifiable as error:
                if client.presented is None:
                    raise DeviceError(f"{where} was refused: {error}.") from error
                self._get_acquainted(known, client.presented)
            except asyncssh.PermissionDenied as error:
                refused = self._passwords.pop(hop, None)
                if asked == _TRIES or not (client.takes_passwords and self._ask_password(hop, where)):
                    raise DeviceError(self._denied(where, refused is not None, client.takes_passwords)) from error
                asked += 1
            except asyncssh.KeyExchangeFailed as error:
                raise DeviceError(
                    f"{where} has nothing that this machine takes ({error}); if {known.places()} knows it and it was "
                    f"installed anew, forget its old key: ssh-keygen -R '{known.host}'."
                ) from error
            except (OSError, asyncssh.ConnectionLost, asyncssh.ChannelOpenError) as error:
                raise UnreachableError(
                    f"{where} cannot be reached ({_reason(error)}); is it on, and on the network?"
                ) from error
            except asyncssh.Error as error:
                raise DeviceError(f"{where} and this machine do not come together ({error}).") from error

    def _get_acquainted(self, known: KnownHosts, key: asyncssh.SSHKey) -> None:
        """Remember the key of a host that is new, if somebody trusts it.

        Raises:
            DeviceError: the key is another than that which is known, or nobody trusts it.
        """
        fingerprint, where = key.get_fingerprint(), known.host
        before = known.fingerprints()
        if before:
            raise DeviceError(
                f"WARNING: the host key of {where} HAS CHANGED from {' or '.join(before)} to {fingerprint}: somebody "
                "may pose as the board, or it was installed anew; nothing was sent to it. If you know why it changed, "
                f"forget the old one (ssh-keygen -R '{where}', {known.places()}) and run the same command again."
            )
        if not self._questions.trusts(where, fingerprint):
            raise DeviceError(
                f"{where} was never seen before and nobody said that its key {fingerprint} is right; run the command "
                "on a terminal and compare, or give it --accept-new (`hwnas targets show NAME --live` has it)."
            )
        known.add(key)

    def _denied(self, where: str, had_password: bool, takes_passwords: bool) -> str:
        if had_password:
            return f"{where} did not accept the password; check it and the user's name."
        ways = "no key of the SSH agent or of a file, and no password was given" if takes_passwords else "no key"
        left_out = f" ({'; '.join(self._left_out)})" if self._left_out else ""
        return f"{where} accepted {ways}{left_out}; ssh-copy-id puts a key there, or check the user's name."

    def _ask_password(self, hop: Hop, where: str) -> bool:
        """Whether there is a password to try."""
        password = self._questions.secret(f"Password of {where}")
        if password is not None:
            self._passwords[hop] = password
        return password is not None


class _Client(asyncssh.SSHClient):
    """Notes what the server wants, for whoever asks in their own thread."""

    def __init__(self) -> None:
        self.presented: asyncssh.SSHKey | None = None
        self.takes_passwords = False

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Only called with a key that is not known."""
        self.presented = key
        return False

    def password_auth_requested(self) -> str | None:
        """None beyond that which was given."""
        self.takes_passwords = True
        return None

    def kbdint_auth_requested(self) -> str | None:
        """As asyncssh does: with the password, if one was given."""
        self.takes_passwords = True
        return super().kbdint_auth_requested()  # type: ignore[return-value]


async def _connect(
    hop: Hop,
    options: asyncssh.SSHClientConnectionOptions,
    known: KnownHosts,
    client: _Client,
    through: asyncssh.SSHClientConnection | None,
    password: str | None,
) -> asyncssh.SSHClientConnection:
    connection = await asyncssh.connect(
        hop.host,
        options=options,
        known_hosts=known.match,
        client_factory=lambda: client,
        tunnel=through,
        password=password,
    )
    if not options.keepalive_interval:  # a dead wire shall be noticed
        connection.set_keepalive(_KEEPALIVE_S, _KEEPALIVES_MISSED)
    return connection


def hang_up(loop: LoopThread, way: list[asyncssh.SSHClientConnection], timeout_s: float = 5.0) -> None:
    """Close connections, the last one first, and do not wait for long."""
    for connection in reversed(way):
        loop.call(connection.close)
        try:
            loop.run(connection.wait_closed(), timeout_s)
        except TimeoutError:
            loop.call(connection.abort)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or "it took too long")
