"""Whether a processor is emulated, as far as the process itself can find out."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.agent.emulation import emulator


def linked(proc: Path, **programs: str) -> Path:
    """A /proc in which ``self`` and ``thread_self`` say that they run these."""
    for who, program in programs.items():
        folder = proc / who.replace("_", "-")
        folder.mkdir()
        (folder / "exe").symlink_to(program)
    return proc


def test_this_process_is_not_emulated() -> None:
    assert emulator() is None


def test_an_emulator_is_what_the_kernel_runs_in_place_of_what_the_process_believes(tmp_path: Path) -> None:
    proc = linked(tmp_path, self="/usr/bin/python3.11", thread_self="/usr/bin/qemu-aarch64-static")
    assert emulator(proc) == "qemu-aarch64-static"


@pytest.mark.parametrize("programs", [{}, {"self": "/usr/bin/python3.11"}])
def test_where_the_kernel_tells_nothing_nothing_is_claimed(programs: dict[str, str], tmp_path: Path) -> None:
    assert emulator(linked(tmp_path, **programs)) is None
