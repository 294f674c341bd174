"""Trainings driven side by side, where they see the same images at the same steps.

Each batch and its teacher's answers are made once for all of them, and a GPU, which a small network leaves mostly idle,
does their steps at once, each on a stream of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hwnas.errors import DivergedError
from hwnas.progress import Progress, Silent
from hwnas.supernet.memory import keep_freed_memory
from hwnas.training import Trainer
from hwnas.training.graphs import Recordings, cuda_graphs, own_stream
from hwnas.training.teachers import Teacher

if TYPE_CHECKING:
    from trainings import Training


def families(trainings: Iterable[Training]) -> list[list[Training]]:
    """Those that see the same images at the same steps, and are taught by the same network, together."""
    found: dict[object, list[Training]] = {}
    for one in trainings:
        config = one.config
        key = (config.seed, config.batch_size, config.augmentation, config.teacher, one.dataset.fingerprint)
        found.setdefault(key, []).append(one)
    return list(found.values())


@dataclass
class Answers:
    """What all of a family learn from at a step: the teacher's logits for its images."""

    teacher: Teacher
    record: bool
    soft: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        self._images = self._given = torch.empty(0)
        self._recordings = Recordings(cuda_graphs(), kept=1) if self.record else None

    def __call__(self, _: Tensor) -> Tensor:
        """The answers to the batch that was last given to :meth:`think`."""
        return self.soft

    def think(self, images: Tensor) -> None:
        """Answer a batch."""
        if self._recordings is None:
            self.soft = self.teacher(images)
            return
        if not len(self._images):
            self._images, self._given = torch.empty_like(images), self.teacher(images)
        self._images.copy_(images)
        self._recordings.run("teacher", self._answer)
        self.soft = self._given.clone()

    def _answer(self) -> None:
        self._given.copy_(self.teacher(self._images))


@dataclass
class Member:
    """One training and where its work is done."""

    training: Training
    trainer: Trainer
    share: Share
    stream: torch.cuda.Stream | None

    @property
    def ended(self) -> bool:
        return self.training.done or self.trainer.step >= self.trainer.total_steps

    def at_work(self) -> AbstractContextManager[object]:
        """What is done on the GPU waits for what was to be done before this."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self.stream)

    def advance(self, batch: tuple[Tensor, ...]) -> None:
        """One step, and the end after the last one; a divergence is written down."""
        trainer = self.trainer
        try:
            with self.at_work():
                trainer.advance(batch, trainer.total_steps, self.share)
                if self.ended:
                    trainer.finish()
        except DivergedError as error:
            self.training.write_diverged(str(error))
            self.share.advance(trainer.total_steps - self.share.done)

    def reads(self, tensors: Iterable[Tensor]) -> None:
        """Keep the memory of tensors until this one's work has read them."""
        for tensor in tensors:
            if self.stream is not None and tensor.is_cuda:
                tensor.record_stream(self.stream)


class Share(Silent):
    """A training's steps as part of the queue's bar."""

    def __init__(self, whole: Progress, name: str, done: int) -> None:
        self._whole, self._name, self.done = whole, name, float(done)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """``amount`` steps more of the queue are done."""
        self.done += amount
        self._whole.advance(amount, f"{self._name} {note}")


def go_on(family: Sequence[Training], deadline: float, progress: Progress) -> None:
    """Train a family until each has ended or ``deadline`` (``time.monotonic``) is over, and keep what there is then."""
    if not family:
        return
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    keep_freed_memory()
    with own_stream(device):
        members = _members(family, device, progress)
        answers = _answers(members, device)
        try:
            _drive(members, answers, deadline)
        finally:
            for member in members:
                if not member.ended:
                    with member.at_work():
                        member.trainer.save()


def _drive(members: Sequence[Member], answers: Answers | None, deadline: float) -> None:
    """Steps in order; who is further on waits for the others."""
    first = min((member.trainer for member in members), key=lambda trainer: trainer.step)
    end = max(member.trainer.total_steps for member in members)
    for step, batch in enumerate(first.batches(end), first.step):
        if time.monotonic() >= deadline or all(member.ended for member in members):
            return
        if answers is not None:
            answers.think(batch[0])
        for member in members:
            if member.trainer.step == step and not member.ended:
                member.reads(batch if answers is None else (*batch, answers.soft))
                member.advance(batch)


def _members(family: Sequence[Training], device: torch.device, progress: Progress) -> list[Member]:
    members: list[Member] = []
    for one in family:
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        trainer = one.trainer(members[0].trainer if members else None)
        member = Member(one, trainer, Share(progress, one.directory.name, one.steps_done), stream)
        with member.at_work():
            trainer.resume(progress)
            if trainer.step == trainer.total_steps:  # killed before it was judged
                trainer.finish()
        members.append(member)
    return members


def _answers(members: Sequence[Member], device: torch.device) -> Answers | None:
    """Of the family's teacher, from whom all learn."""
    teacher = members[0].trainer.teacher
    if len(members) == 1 or teacher is None:
        return None
    assert isinstance(teacher, Teacher)
    answers = Answers(teacher, record=device.type == "cuda")
    for member in members:
        member.trainer.teacher = answers
    return answers
