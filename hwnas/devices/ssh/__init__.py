"""Boards that are reached over SSH."""

from __future__ import annotations

from hwnas.devices.ssh.connection import SshConnection

__all__ = ["SshConnection"]
