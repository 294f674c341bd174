"""Trainings that see the same images at the same steps, driven side by side.

Each batch and its teacher's answers are made once for all of them, and a GPU, which a small network leaves mostly idle,
does their steps at once, each on a stream of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hwnas.errors import BusyError, DivergedError
from hwnas.files import locked
from hwnas.progress import Silent
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
    share: Silent
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

    def read(self, tensors: Iterable[Tensor]) -> None:
        """Keep the memory of tensors until this one's work has read them."""
        for tensor in tensors:
            if self.stream is not None and tensor.is_cuda:
                tensor.record_stream(self.stream)


def run_together(
    trainings: Sequence[Training], deadline: float, share_of: Callable[[Training], Silent], lock: str
) -> None:
    """Go on with a family until each has ended or ``deadline`` (``time.monotonic``) is over.

    Those that another process is at work on are left to it.
    """
    with ExitStack() as held:
        free = [one for one in trainings if _taken(one, held, lock) and not one.done]
        if not free:
            return
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        held.enter_context(own_stream(device))
        members = _members(free, device, share_of)
        answers = _answers(members, device)
        with _saved(members):
            first = min(members, key=lambda member: member.trainer.step)
            end = max(member.trainer.total_steps for member in members)
            for step, batch in enumerate(first.trainer.batches(end), first.trainer.step):
                if time.monotonic() >= deadline or all(member.ended for member in members):
                    break
                if answers is not None:
                    answers.think(batch[0])
                for member in members:
                    if member.trainer.step == step and not member.ended:
                        member.read(batch if answers is None else (*batch, answers.soft))
                        _advance(member, batch)


def _taken(training: Training, held: ExitStack, lock: str) -> bool:
    try:
        held.enter_context(locked(training.directory, lock))
    except BusyError:
        return False
    return True


def _members(
    trainings: Sequence[Training], device: torch.device, share_of: Callable[[Training], Silent]
) -> list[Member]:
    members: list[Member] = []
    for one in trainings:
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        member = Member(one, one.trainer(members[0].trainer if members else None), share_of(one), stream)
        with member.at_work():
            member.trainer.resume(Silent())
        members.append(member)
    return members


def _answers(members: Sequence[Member], device: torch.device) -> Answers | None:
    """Of the family's teacher, from whom all learn."""
    teacher = members[0].trainer.teacher
    if teacher is None:
        return None
    assert isinstance(teacher, Teacher)
    answers = Answers(teacher, record=device.type == "cuda")
    for member in members:
        member.trainer.teacher = answers
    return answers


def _advance(member: Member, batch: tuple[Tensor, ...]) -> None:
    trainer = member.trainer
    try:
        with member.at_work():
            trainer.advance(batch, trainer.total_steps, member.share)
            if member.ended:
                trainer.finish()
    except DivergedError as error:
        member.training.write_diverged(str(error))


@contextmanager
def _saved(members: Sequence[Member]) -> Iterator[None]:
    """Keep what those that have not ended have come to, whatever the end."""
    try:
        yield
    finally:
        for member in members:
            if not member.ended:
                with member.at_work():
                    member.trainer.save()
