"""Training of a supernet, in one process or several, that goes on where it was killed.

Every random draw is a function of the seed and the step, so the state on disk is weights, optimizer and step.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from hwnas.data import Dataset
from hwnas.data.dataset import CPU
from hwnas.data.tasks import AnyDataset
from hwnas.errors import UserError
from hwnas.files import locked
from hwnas.progress import Progress as ProgressBar
from hwnas.progress import Silent
from hwnas.spaces import Space
from hwnas.supernet import DatasetRecord, ElasticNetwork, PlainNetwork, SupernetRecord, save_supernet
from hwnas.supernet.importing import begin_with
from hwnas.supernet.memory import keep_freed_memory
from hwnas.training.batches import Batches, default_workers, require_batches, share_of, stream
from hwnas.training.config import TrainingConfig
from hwnas.training.drop_connect import DropConnect
from hwnas.training.failures import LossWatch, memory_explained
from hwnas.training.graphs import Record, ReplayedStep, cuda_graphs, own_stream
from hwnas.training.history import extend_history, restart_history
from hwnas.training.judge import Judge
from hwnas.training.layout import layout_for
from hwnas.training.optimization import make_optimizer, phase_rate
from hwnas.training.probe import Probe, external_teacher
from hwnas.training.processes import share_batch_norms
from hwnas.training.recipes import Phase, phases, subnets
from hwnas.training.state import STATE_FILE, Progress, State, read_progress
from hwnas.training.step import EagerStep, Run, Step
from hwnas.training.tasks import task_of
from hwnas.training.teachers import Ask, Teacher
from hwnas.training.tensor_file import weights_digest

METRICS_STEPS = 50
NOTE_SECONDS = 1.0
"""Between two losses on the bar; each waits for the device."""
CHECKPOINT_SECONDS = 30.0
"""A kill costs at most so much work."""


Network = TypeVar("Network", bound=torch.nn.Module)


class Trainer:
    """One training run in a directory.

    Args:
        directory: holds ``state.safetensors`` (to go on from), ``metrics.jsonl``, the same as curves for TensorBoard
            and, at the end, ``weights.safetensors`` with ``record.json``.
        space: its number of classes must be the data set's.
        dataset: for the space's task.
        beginning: weights of the largest subnet to begin with, for a space of one architecture
            (:func:`hwnas.spaces.single_space`).
        workers: processes that make batches; None: as many as the device wants (:func:`default_workers`).
        like: another run with the same teacher, which is taken from there.
        record: how steps are recorded, to be replayed; by default as CUDA graphs where that can be
            (:meth:`_can_replay`), and not at all elsewhere.

    Attributes:
        judge: tells how good subnets are with the averaged weights.

    Raises:
        UserError: the directory holds the state of another run, the data set has fewer images than a batch, the batch
            cannot be shared out or held in memory, or the teacher does not know the data set's classes.
    """

    def __init__(
        self,
        directory: Path,
        space: Space,
        dataset: AnyDataset,
        config: TrainingConfig,
        beginning: PlainNetwork | None = None,
        *,
        workers: int | None = None,
        record: Record | None = None,
        like: Trainer | None = None,
    ) -> None:
        self.directory, self.space, self.dataset, self.config = directory, space, dataset, config
        mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[config.precision]
        # Without `cpu`, several processes on a machine without a GPU would each train for themselves.
        self.accelerator = Accelerator(mixed_precision=mixed, cpu=not torch.accelerator.is_available())
        if config.precision != "fp32" and not self.accelerator.native_amp:
            raise UserError(f"This device does not compute in {config.precision}; train with precision fp32.")
        self.task = task_of(space, dataset, config)
        require_batches(dataset, config, self.accelerator.num_processes)
        self.steps_per_epoch = len(dataset.train) // config.batch_size
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        alone = config.full_epochs >= config.epochs  # else one step at least is of subnets, however few there are
        most = self.total_steps if alone else self.total_steps - 1
        self.full_steps = min(round(config.full_epochs * self.steps_per_epoch), most)
        self.phases = phases(space, config, self.full_steps, self.total_steps)

        torch.manual_seed(config.seed)
        model = ElasticNetwork(space)
        self.task.begin(model)
        model.recalibration = self.task.recalibration
        if config.init is not None:
            begin_with(config.init, model, dataset.mean, dataset.std)
        if beginning is not None:
            model.adopt(beginning)
        self._beginning_sha256 = "" if beginning is None else weights_digest(beginning.state_dict())
        self.model = self._placed(model)
        self.drop_connect = DropConnect(self.model, config.drop_connect)
        self._workers = self._default_workers() if workers is None else workers
        self._record_steps = record or (cuda_graphs() if self._can_replay() else None)
        self._step: Step | None = None
        optimizer = make_optimizer(self.model, config, replayed=self._record_steps is not None)
        self.state = State(self.model, optimizer, _copy_parameters(self.model))
        self.optimizer = self.accelerator.prepare(optimizer)
        self._run = Run(self.state, self.task, dataset, config)
        self.judge = Judge(self._run, self.accelerator)
        external, self._teacher_sha256 = self._external = self._external_teacher(like)
        self.teacher: Ask | None = external if isinstance(external, Teacher) else None
        self._probe = external if isinstance(external, Probe) else None
        self.losses = LossWatch(config, self.task.knows_nothing)
        self._sound = False  # the weights at the end
        self.step = 0
        self.seconds = 0.0
        self._clock = time.perf_counter()
        self._saved_at = self._noted_at = time.monotonic()

    def run(self, progress: ProgressBar | None = None) -> SupernetRecord:
        """Train to the end, from the last state on disk if there is one; returns the record that was saved."""
        with self._locked():
            self._train(self.total_steps, progress or Silent())
            return self.finish()

    def run_until(self, step: int, progress: ProgressBar | None = None) -> None:
        """Train to the end of ``step`` of this same run and stop there, from the last state on disk if there is one.

        What is saved is the state alone; a run that goes on from it is the run that never stopped.
        """
        with self._locked():
            self._train(min(step, self.total_steps), progress or Silent())

    def _train(self, until: int, bar: ProgressBar) -> None:
        keep_freed_memory()
        with own_stream(self.accelerator.device):
            self._train_steps(until, bar)

    def _train_steps(self, until: int, bar: ProgressBar) -> None:
        self.resume(bar)
        bar.start("training", until, self.step, "step")
        with memory_explained(self.config, self.accelerator.num_processes):
            for batch in self.batches(until):
                self.advance(batch, until, bar)
        bar.finish()

    # --- in parts, for who drives several runs at once and holds their directories (:func:`hwnas.files.locked`) ------

    def resume(self, bar: ProgressBar) -> None:
        """Take up the last state on disk, if there is one, and fit the teacher where that has to be."""
        self._restore()
        if self._probe is not None and self.teacher is None:
            self.teacher = self._probe.fit(self.directory, self.accelerator, bar)
        self.take_turn()

    def take_turn(self) -> None:
        """From now until the end of a step time counts as this run's."""
        self._clock = time.perf_counter()

    def pause(self) -> None:
        """Write down what this run has come to after its last step, to go on from.

        Raises:
            DivergedError: it has not come to anything sound.
        """
        self.losses.look()
        self._save()

    def batches(self, until: int) -> Iterator[tuple[Tensor, ...]]:
        """Images and targets of the steps from this one to ``until``, on the device."""
        device = self.accelerator.device
        return stream(self._made_on(CPU if self._workers else device), self.step, until, self._workers, device)

    def _made_on(self, device: torch.device) -> Batches:
        make, accelerator = self.task.maker(device), self.accelerator
        images, process, processes = len(self.dataset.train), accelerator.process_index, accelerator.num_processes
        return Batches(images, make, self.config, process, processes)

    def advance(self, batch: tuple[Tensor, ...], until: int, bar: ProgressBar) -> None:
        """One step on its batch, and what is due after it.

        Raises:
            DivergedError: the loss is no longer finite, or has grown and does not come back.
            UserError: there is too little memory to evaluate, or a file cannot be written.
        """
        losses = self._train_step(batch)
        self.step += 1
        self.losses.add(self.step, losses)
        self.seconds += time.perf_counter() - self._clock
        last, last_of_epoch = self.step == self.total_steps, self.step % self.steps_per_epoch == 0
        now = time.monotonic()
        saves = now - self._saved_at > CHECKPOINT_SECONDS or self.step % self.config.checkpoint_steps == 0
        saves = saves or self.step == until
        recorded = last or last_of_epoch or self.step % METRICS_STEPS == 0
        note = ""
        if saves or recorded or now - self._noted_at > NOTE_SECONDS:
            latest = self.losses.look()
            self._noted_at, note = now, f"loss {latest[0]:.3f}"
            if last:
                self._require_sound()
            if recorded:
                epochs = self.step // self.steps_per_epoch
                self._record(latest, last or (last_of_epoch and epochs % self.config.evaluate_epochs == 0))
        bar.advance(note=note)
        if saves:
            self._save()
        self.take_turn()

    def _require_sound(self) -> None:
        """Have the weights that the last step left judged, by what the next would be.

        Raises:
            DivergedError: they are spoilt.
        """
        if not self._sound:
            drawn = subnets(self.space, self.phases[-1], self.config, self.step)
            self.judge.require_sound(self.step, self._made_on(CPU)(self.step), drawn, self.losses)
            self._sound = True

    # --- one step -----------------------------------------------------------------------------------------

    def _train_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        """One optimizer step on the batch of this step; returns the loss of each subnet, the first drawn first."""
        config = self.config
        phase = next(phase for phase in self.phases if self.step < phase.end)
        if self.step == phase.first:
            self._begin(phase)
        if self._step is None:
            self._step = self._make_step()
        self.model.train()
        images, *targets = batch
        drops = config.drop_connect and phase.teacher == "first"
        share = share_of(config.batch_size, self.accelerator.process_index, self.accelerator.num_processes)
        losses = self._step.passes(
            subnets(self.space, phase, config, self.step),
            images,
            targets,
            self.teacher,
            self.drop_connect((config.seed, self.step), config.batch_size, share) if drops else None,
        )
        self._step.update(phase_rate(config, phase, self.step, self.steps_per_epoch), self.step - phase.first)
        return losses

    def _default_workers(self) -> int:
        processes = self.accelerator.num_processes
        here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))  # torchrun's
        image_bytes = self.dataset.train.pixels[0].numel() * torch.float32.itemsize
        return default_workers(self.accelerator.device, here, self.config.batch_size // processes * image_bytes)

    def _make_step(self) -> Step:
        if self._record_steps is not None:
            return ReplayedStep(self._run, self.accelerator.autocast, self._record_steps)
        return EagerStep(self._run, self.accelerator, self.optimizer)

    def _can_replay(self) -> bool:
        """Whether CUDA graphs do a step: nothing in it waits for the CPU."""
        alone_on_gpu = self.accelerator.device.type == "cuda" and self.accelerator.num_processes == 1
        return alone_on_gpu and self.config.precision != "fp16" and self.task.distils

    def _begin(self, phase: Phase) -> None:
        """Keep the full network if it is to teach; sort channels: what belongs to the old order starts anew."""
        self._step = None
        if phase.teacher == "full" and self.state.teacher is None:
            network = self.judge.averaged().extract(self.space.largest)
            self._teach(network)
        if phase.sorts:
            if self.config.init is None:  # such weights are in their order
                self.model.sort_channels()
            self.state.optimizer.state.clear()
            self.state.average.update(_copy_parameters(self.model))

    def _teach(self, network: PlainNetwork) -> None:
        """Make a network the teacher of the phases to come, where the user has not given another.

        It normalises by its batches, as the published code's does, so that it needs no recalibration.
        """
        self.state.teacher = self._placed(network).train()
        if self.config.teacher is None:
            largest = self.space.largest
            self.teacher = Teacher(network, largest.resolution, self.dataset.mean, self.dataset.std)

    def _external_teacher(self, like: Trainer | None) -> tuple[Teacher | Probe | None, str]:
        if self.config.teacher is None:
            return None, ""
        if like is not None and like.config.teacher == self.config.teacher:
            return like._external
        assert isinstance(self.dataset, Dataset)  # its task refuses a teacher else
        return external_teacher(self.config.teacher, self.dataset, self.accelerator.device)

    def _placed(self, model: Network) -> Network:
        """On the device, and with batch norms over the images of all processes."""
        if self.accelerator.num_processes > 1:
            share_batch_norms(model, self.accelerator.num_processes)
        device = self.accelerator.device
        return model.to(device, memory_format=layout_for(self.space, device))  # type: ignore[call-overload,no-any-return]

    def _of_teacher(self) -> dict[str, float]:
        """How good the teacher is, where it was fitted and that is known."""
        top1 = None if self.teacher is None else self.teacher.held_out_top1
        return {} if top1 is None or math.isnan(top1) else {"held_out_top1_teacher": top1}

    # --- files --------------------------------------------------------------------------------------------

    def _locked(self) -> AbstractContextManager[None]:
        """Keeps other runs out of the directory."""
        return locked(self.directory) if self.accelerator.is_main_process else nullcontext()

    def _restore(self) -> None:
        path = self.directory / STATE_FILE
        if path.exists():
            saved = read_progress(path)
            saved.require_run_of(self._progress(), path)
            taught = next((phase for phase in self.phases if phase.teacher == "full"), None)
            if taught is not None and saved.step > taught.first:
                self._teach(PlainNetwork.of(self.space, self.space.largest))
            self.state.restore(path)
            self._step = None
            self.step, self.seconds, self.losses.first = saved.step, saved.seconds, saved.first_loss
        if self.accelerator.is_main_process:
            restart_history(self.directory, self.step)
        self.accelerator.wait_for_everyone()

    def _progress(self) -> Progress:
        return Progress(
            step=self.step,
            seconds=self.seconds,
            space=self.space.name,
            num_classes=self.space.num_classes,
            dataset_fingerprint=self.dataset.fingerprint,
            config=self.config,
            teacher_sha256=self._teacher_sha256,
            beginning_sha256=self._beginning_sha256,
            first_loss=self.losses.first,
        )

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self.accelerator.is_main_process:
            self.state.save(self.directory / STATE_FILE, self._progress())

    def _record(self, losses: list[float], evaluated: bool) -> None:
        if not self.accelerator.is_main_process:
            return
        phase = next(phase for phase in self.phases if self.step <= phase.end)
        line: dict[str, float | str] = {"step": self.step, "epoch": self.step / self.steps_per_epoch}
        line |= {"phase": phase.name, **_named(losses, phase)}
        line |= {"lr": float(self.state.optimizer.param_groups[-1]["lr"]), "seconds": round(self.seconds, 2)}
        if evaluated:
            line |= self.judge.extremes(self.step)
        extend_history(self.directory, line)

    def finish(self) -> SupernetRecord:
        """Judge and save what was trained; returns the record.

        Raises:
            DivergedError: it has not come to anything sound.
            UserError: there is too little memory to judge it.
        """
        with memory_explained(self.config, self.accelerator.num_processes):
            self._require_sound()
        metrics = self.judge.extremes(self.step)
        record = SupernetRecord(
            space=self.space.name,
            num_classes=self.space.num_classes,
            weights_sha256="",
            dataset=dataset_record(self.dataset),
            training={
                "config": self.config.model_dump(mode="json"),
                "steps": self.step,
                "seconds": round(self.seconds, 1),
                "torch": torch.__version__,
            },
            metrics={f"validation_{name}": value for name, value in metrics.items()} | self._of_teacher(),
        )
        if self.accelerator.is_main_process:
            record = save_supernet(self.directory, self.judge.averaged(), record)
        self.accelerator.wait_for_everyone()
        return record


def dataset_record(dataset: AnyDataset) -> DatasetRecord:
    """What is kept of the data that weights were trained on."""
    return DatasetRecord(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        train_images=len(dataset.train),
    )


def _copy_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _named(losses: Sequence[float], phase: Phase) -> dict[str, float]:
    """Losses of a step's subnets, the first drawn first: of the largest, of random ones (mean) and of the smallest."""
    first, last = len(phase.before), len(losses) - len(phase.after)
    parts = {"largest": losses[:first], "random": losses[first:last], "smallest": losses[last:]}
    return {f"loss_{name}": fmean(part) for name, part in parts.items() if part}
