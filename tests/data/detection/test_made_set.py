"""The script that makes a detection data set, as a command: the user's mistakes are one sentence and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.rectangles import make_set

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
import make_detection_set as script


@pytest.mark.parametrize(
    ("backgrounds", "message"),
    [("nowhere", "is no parquet file; give"), ("boxes", "is a detection data set, and only data of classifiers")],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backgrounds: str,
    message: str,
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    make_set(tmp_path / "boxes")
    monkeypatch.setattr(sys, "argv", ["make_detection_set", str(tmp_path / backgrounds), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        script.main()
    told = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert told.startswith(f"make_detection_set: {tmp_path / backgrounds} {message}")
    assert "\n" not in told
    assert not (tmp_path / "out").exists()
