"""A teacher's answers, kept on disk for all trainings that show it the same images at the same steps.

Batches and their augmentation are functions of the seed and the step, so networks that are trained alone with one seed
share them; the largest subnet as a teacher costs as much as many a network that it teaches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hwnas.training import Trainer
from hwnas.training.teachers import Teacher
from hwnas.training.tensor_file import weights_digest

_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Remembered(Teacher):
    """A teacher that answers from ``file`` where that holds the answer to these very images.

    ``file`` has a row for each step: the logits, and a digest of the teacher, the images and the logits.  What does
    not fit its digest (another stream of images, a row half written) is answered anew and written down.
    """

    file: Path
    identity: str
    """Of the teacher: its weights and statistics."""
    classes: int
    step: Callable[[], int]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """As :class:`Teacher`."""
        pixels = images.cpu().contiguous().numpy().tobytes()
        kept = self._read(pixels, len(images))
        if kept is not None:
            return kept.to(images.device)
        logits = super().__call__(images)
        self._write(pixels, logits.cpu().numpy())
        return logits

    def _read(self, pixels: bytes, images: int) -> Tensor | None:
        if not self.file.exists():
            return None
        with self.file.open("rb") as file:
            file.seek(self.step() * self._row_bytes(images))
            row = file.read(self._row_bytes(images))
        digest, logits = row[:_DIGEST_BYTES], row[_DIGEST_BYTES:]
        if digest != self._digest(pixels, logits):
            return None
        return torch.from_numpy(np.frombuffer(logits, np.float32).reshape(images, self.classes).copy())

    def _write(self, pixels: bytes, logits: np.ndarray) -> None:
        content = logits.astype(np.float32).tobytes()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        with self.file.open("r+b") as file:
            file.seek(self.step() * self._row_bytes(len(logits)))
            file.write(self._digest(pixels, content) + content)

    def _row_bytes(self, images: int) -> int:
        return _DIGEST_BYTES + images * self.classes * np.dtype(np.float32).itemsize

    def _digest(self, pixels: bytes, logits: bytes) -> bytes:
        content = hashlib.blake2b(self.identity.encode(), digest_size=_DIGEST_BYTES)
        content.update(pixels)
        content.update(logits)
        return content.digest()


def remember(trainer: Trainer, file: Path) -> None:
    """Have the trainer's teacher, if it has one from the beginning, answer from ``file``."""
    teacher = trainer.teacher
    if teacher is not None:
        trainer.teacher = Remembered(
            **vars(teacher),
            file=file,
            identity=weights_digest(teacher.network.state_dict()),
            classes=trainer.space.num_classes,
            step=lambda: trainer.step,
        )
