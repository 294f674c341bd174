from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from hwnas.cli.main import app


def test_what_cannot_be_imported_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"<html>")
    (tmp_path / "names").write_bytes(b"\xff\xfe")
    for arguments, said in (
        (["timm", "bad"], "format 'timm' are not known; 'ofa' is"),
        (["ofa", "missing"], "missing does not exist"),
        (["ofa", "bad"], "was not written by torch.save"),
        (["ofa", "bad", "--classes", str(tmp_path / "names")], "are not text in UTF-8"),
    ):
        arguments[1] = str(tmp_path / arguments[1])
        result = CliRunner().invoke(app, ["import-weights", *arguments, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2
        assert said in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
