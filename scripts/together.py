"""Trainings driven side by side, where they see the same images at the same steps.

Each batch and its teacher's answers are made once for all of them, and a GPU, which a small network leaves mostly idle,
does their steps at once, each on a stream of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from alone import this_device
from torch import Tensor

from hwnas.errors import DivergedError
from hwnas.progress import Progress, Silent
from hwnas.supernet.memory import keep_freed_memory
from hwnas.training import Trainer
from hwnas.training.failures import memory_explained
from hwnas.training.graphs import Recordings, cuda_graphs, own_stream
from hwnas.training.teachers import Teacher

if TYPE_CHECKING:
    from trainings import Training


def families(trainings: Iterable[Training]) -> list[list[Training]]:
    """Those that see the same images at the same steps, and are taught by the same network, together."""
    found: dict[object, list[Training]] = {}
    for one in trainings:
        config = one.config
        key = (config.seed, config.batch_size, config.augmentation, config.teacher, config.precision)
        found.setdefault((key, one.dataset.fingerprint), []).append(one)
    return list(found.values())


class Answers:
    """What all of a family learn from at a step: the teacher's logits for its images."""

    replayable = False
    """A recording would read the answers of the step that it was made in."""

    def __init__(self, teacher: Teacher, autocast: Callable[[], AbstractContextManager[None]], *, record: bool) -> None:
        self.held_out_top1 = teacher.held_out_top1
        self.soft = self._images = self._given = torch.empty(0)
        self._teacher, self._autocast = teacher, autocast
        self._recordings = Recordings(cuda_graphs(), kept=1) if record else None

    def __call__(self, _: Tensor) -> Tensor:
        """The answers to the batch that was last given to :meth:`think`."""
        return self.soft

    def think(self, images: Tensor) -> None:
        """Answer a batch."""
        if self._recordings is None:
            self.soft = self._ask(images)
            return
        if not len(self._images):
            self._images, self._given = torch.empty_like(images), self._ask(images)
        self._images.copy_(images)
        self._recordings.run("teacher", self._answer)
        self.soft = self._given.clone()

    def _ask(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self._teacher(images)

    def _answer(self) -> None:
        self._given.copy_(self._ask(self._images))


@dataclass
class Member:
    """One training and where its work is done."""

    training: Training
    trainer: Trainer
    share: Share
    stream: torch.cuda.Stream | None
    ended: bool = False

    def advance(self, batch: tuple[Tensor, ...]) -> None:
        """One step, and the end after the last one."""
        with self._sound():
            self.trainer.take_turn()
            self.trainer.advance(batch, self.trainer.total_steps, self.share)
        self.finish_if_due()

    def finish_if_due(self) -> None:
        """Judge and save what was trained to its end."""
        if self.ended or self.trainer.step < self.trainer.total_steps:
            return
        with self._sound():
            self.trainer.finish()
            self.ended = True

    def pause(self) -> None:
        """Keep what there is, to go on from."""
        with self._sound():
            self.trainer.pause()

    def reads(self, tensors: Iterable[Tensor]) -> None:
        """Keep the memory of tensors until this one's work has read them."""
        for tensor in tensors:
            if self.stream is not None and tensor.is_cuda:
                tensor.record_stream(self.stream)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Work on the stream; a divergence is written down."""
        try:
            with at_work(self.stream):
                yield
        except DivergedError as error:
            self.training.write_diverged(str(error))
            self.share.advance(self.trainer.total_steps - self.share.done)
            self.ended = True


class Share(Silent):
    """A training's steps as part of the queue's bar."""

    def __init__(self, whole: Progress, name: str, done: int) -> None:
        self._whole, self._name, self.done = whole, name, float(done)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """``amount`` steps more of the queue are done."""
        self.done += amount
        self._whole.advance(amount, f"{self._name} {note}")


def at_work(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    """What is done on a stream waits for what was to be done before this."""
    if stream is None:
        return nullcontext()
    stream.wait_stream(torch.cuda.current_stream())
    return torch.cuda.stream(stream)


def go_on(family: Sequence[Training], deadline: float, progress: Progress) -> None:
    """Train a family until each has ended or ``deadline`` (``time.monotonic``) is over, and keep what there is then.

    Whatever else ends it, what the trainings have saved every half minute is kept.
    """
    if not family:
        return
    device = this_device()
    keep_freed_memory()
    with own_stream(device), memory_explained(family[0].config, processes=1):
        members = _members(family, device, progress)
        answers = _answers(members, device)
        while time.monotonic() < deadline and not all(member.ended for member in members):
            _drive([member for member in members if not member.ended], answers, deadline)
        for member in members:
            if not member.ended:
                member.pause()


def _drive(members: Sequence[Member], answers: Answers | None, deadline: float) -> None:
    """Steps in order from that of the one furthest behind, until nobody takes the next."""
    first = min((member.trainer for member in members), key=lambda trainer: trainer.step)
    end = max(member.trainer.total_steps for member in members)
    for step, batch in enumerate(first.batches(end), first.step):
        takers = [member for member in members if not member.ended and member.trainer.step == step]
        if time.monotonic() >= deadline or not takers:
            return
        if answers is not None:
            answers.think(batch[0])
        for member in takers:
            member.reads(batch if answers is None else (*batch, answers.soft))
            member.advance(batch)


def _members(family: Sequence[Training], device: torch.device, progress: Progress) -> list[Member]:
    members: list[Member] = []
    for one in family:
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        with at_work(stream):
            trainer = one.trainer(members[0].trainer if members else None)
            if members and one.config.teacher is not None:
                trainer.teacher = members[0].trainer.teacher  # which may have had to be fitted
            trainer.resume(progress)
            member = Member(one, trainer, Share(progress, one.directory.name, trainer.step), stream)
            member.finish_if_due()  # where it was killed before it was judged
        members.append(member)
    return members


def _answers(members: Sequence[Member], device: torch.device) -> Answers | None:
    """Of the family's teacher, where all learn from one and the same."""
    first = members[0].trainer
    if len(members) == 1 or first.config.teacher is None:
        return None
    assert isinstance(first.teacher, Teacher)
    answers = Answers(first.teacher, first.accelerator.autocast, record=device.type == "cuda")
    for member in members:
        member.trainer.teacher = answers
    return answers
