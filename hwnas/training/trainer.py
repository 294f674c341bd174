"""Training of a supernet, in one process or several, that goes on where it was killed.

Every random draw is a function of the seed and the step, so the state on disk is weights, optimizer and step.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from hwnas.data import Dataset, ImageSet, to_input
from hwnas.data.augmentation import Augmentation
from hwnas.errors import DivergedError, UserError
from hwnas.files import append_json_line, locked, read_json_lines, write_atomic
from hwnas.progress import Progress as ProgressBar
from hwnas.progress import Silent
from hwnas.spaces import Architecture, Space
from hwnas.supernet import (
    DatasetRecord,
    ElasticNetwork,
    SupernetRecord,
    recalibrate,
    save_supernet,
    top1,
)
from hwnas.training.config import TrainingConfig
from hwnas.training.curves import extend_curves, restart_curves
from hwnas.training.optimization import learning_rate, make_optimizer, update_average
from hwnas.training.sandwich import backward, sandwich
from hwnas.training.state import STATE_FILE, Progress, State, read_progress

METRICS_FILE = "metrics.jsonl"
EVALUATION_BATCH = 250
CHECKPOINT_SECONDS = 30.0
"""A kill costs at most so much work."""


class Trainer:
    """One training run in a directory.

    Args:
        directory: holds ``state.safetensors`` (to go on from), ``metrics.jsonl``, its curves for TensorBoard and,
            at the end, ``weights.safetensors`` with ``record.json``.
        space: its number of classes must be the data set's.

    Raises:
        UserError: the directory holds the state of another run, or the data set has fewer images than a batch.
    """

    def __init__(self, directory: Path, space: Space, dataset: Dataset, config: TrainingConfig) -> None:
        self.directory, self.space, self.dataset, self.config = directory, space, dataset, config
        mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[config.precision]
        # Without `cpu`, several processes on a machine without a GPU would each train for themselves.
        self.accelerator = Accelerator(mixed_precision=mixed, cpu=not torch.accelerator.is_available())
        if config.precision != "fp32" and not self.accelerator.native_amp:
            raise UserError(f"This device does not compute in {config.precision}; train with precision fp32.")
        if config.batch_size % self.accelerator.num_processes:
            raise UserError(
                f"A batch of {config.batch_size} cannot be split between {self.accelerator.num_processes} "
                "processes; choose a multiple."
            )
        if len(dataset.train) < config.batch_size:
            raise UserError(
                f"Data set {dataset.name} has {len(dataset.train)} training images, fewer than one batch of "
                f"{config.batch_size}; choose a smaller batch."
            )
        self.steps_per_epoch = len(dataset.train) // config.batch_size
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.full_steps = min(round(config.full_epochs * self.steps_per_epoch), self.total_steps)
        self.augment = Augmentation(config.augmentation)

        torch.manual_seed(config.seed)
        model = ElasticNetwork(space).to(self.accelerator.device)
        self.model: ElasticNetwork = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = make_optimizer(self.model, config)
        self.state = State(self.model, optimizer, _copy_parameters(self.model))
        self.optimizer = self.accelerator.prepare(optimizer)
        self.step = 0
        self.seconds = 0.0
        self._saved_at = time.monotonic()

    def run(self, progress: ProgressBar | None = None) -> SupernetRecord:
        """Train to the end, from the last state on disk if there is one; returns the record that was saved."""
        with locked(self.directory) if self.accelerator.is_main_process else nullcontext():
            self._train(self.total_steps, progress or Silent())
            return self._finish()

    def run_until(self, step: int, progress: ProgressBar | None = None) -> None:
        """Train to the end of ``step`` of this same run and stop there, from the last state on disk if there is one.

        What is saved is the state alone; a run that goes on from it is the run that never stopped.
        """
        with locked(self.directory) if self.accelerator.is_main_process else nullcontext():
            self._train(min(step, self.total_steps), progress or Silent())

    def top1s(self, architectures: Sequence[Architecture]) -> list[float]:
        """Validation accuracies of subnets with the averaged weights, each recalibrated, in 0..1."""
        averaged = self._averaged_model()
        return [self._top1(averaged, architecture) for architecture in architectures]

    def _train(self, until: int, bar: ProgressBar) -> None:
        self._resume()
        bar.start("training", until, self.step, "step")
        for batch in self._batches(until):
            begun = time.perf_counter()
            losses = self._train_step(*batch)
            self.step += 1
            self.seconds += time.perf_counter() - begun
            bar.advance(note=f"loss {float(losses[0]):.3f}")
            self._record(losses)
            late = time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
            if late or self.step % self.config.checkpoint_steps == 0 or self.step == until:
                self._save_state()
        bar.finish()

    # --- one step -----------------------------------------------------------------------------------------

    def _batches(self, until: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of every remaining batch: uint8 images and labels."""
        train, config = self.dataset.train, self.config
        share = config.batch_size // self.accelerator.num_processes
        for step in range(self.step, until):
            epoch, index = divmod(step, self.steps_per_epoch)
            if index == 0 or step == self.step:
                order = torch.from_numpy(np.random.default_rng((config.seed, epoch)).permutation(len(train)))
            start = index * config.batch_size + self.accelerator.process_index * share
            rows = order[start : start + share]
            yield train.pixels[rows], train.labels[rows]

    def _train_step(self, pixels: Tensor, labels: Tensor) -> list[Tensor]:
        """One optimizer step; returns the loss of each subnet, the largest's first."""
        config, accelerator = self.config, self.accelerator
        if self.step == self.full_steps and self.step:
            self._begin_sandwich()
        self.model.train()
        seed = (config.seed * self.total_steps + self.step) * accelerator.num_processes + accelerator.process_index
        pixels = pixels.to(accelerator.device).float().div_(255)
        augmented = self.augment(pixels, seed=seed)
        architectures = (
            [self.space.largest]
            if self.step < self.full_steps
            else sandwich(self.space, config.random_subnets, (config.seed, self.step))
        )

        def images(resolution: int) -> Tensor:
            batch = to_input(augmented, resolution, self.dataset.mean, self.dataset.std)
            return batch.contiguous(memory_format=torch.channels_last)

        losses = backward(
            self.model,
            architectures,
            images,
            labels.to(accelerator.device),
            config,
            autocast=accelerator.autocast,
            backpropagate=accelerator.backward,
        )
        if accelerator.num_processes > 1:
            _average_gradients(self.model, accelerator)
        accelerator.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        for group in self.state.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step, self.steps_per_epoch, self.total_steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        since_begin = self.step if self.step < self.full_steps else self.step - self.full_steps
        update_average(self.state.average, self.model, self.config.ema_decay, since_begin)
        if not math.isfinite(float(losses[0])):
            raise DivergedError(
                f"Training diverged at step {self.step} (loss {float(losses[0])}); lower the learning rate."
            )
        return losses

    def _begin_sandwich(self) -> None:
        """Sort channels by importance; what belongs to the old order starts anew."""
        self.model.sort_channels()
        self.state.optimizer.state.clear()
        self.state.average.update(_copy_parameters(self.model))

    # --- files --------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        path = self.directory / STATE_FILE
        if path.exists():
            saved = read_progress(path)
            mine = self._progress()
            for field in ("space", "num_classes", "dataset_fingerprint", "config"):
                if getattr(saved, field) != getattr(mine, field):
                    raise UserError(
                        f"{path} is the state of a run with another {field.replace('_', ' ')}; give the same "
                        "settings to go on, or another directory to begin anew."
                    )
            self.state.restore(path)
            self.step, self.seconds = saved.step, saved.seconds
        if self.accelerator.is_main_process:
            kept = [line for line in read_json_lines(self._metrics_path) if line["step"] <= self.step]
            write_atomic(self._metrics_path, "".join(json.dumps(line) + "\n" for line in kept))
            restart_curves(self.directory, kept)
        self.accelerator.wait_for_everyone()

    def _progress(self) -> Progress:
        return Progress(
            step=self.step,
            seconds=self.seconds,
            space=self.space.name,
            num_classes=self.space.num_classes,
            dataset_fingerprint=self.dataset.fingerprint,
            config=self.config,
        )

    def _save_state(self) -> None:
        self._saved_at = time.monotonic()
        if self.accelerator.is_main_process:
            self.state.save(self.directory / STATE_FILE, self._progress())

    @property
    def _metrics_path(self) -> Path:
        return self.directory / METRICS_FILE

    def _record(self, losses: list[Tensor]) -> None:
        if not self.accelerator.is_main_process:
            return
        last_of_epoch = self.step % self.steps_per_epoch == 0
        epoch = self.step // self.steps_per_epoch
        line: dict[str, float] = {"step": self.step, "epoch": self.step / self.steps_per_epoch}
        line |= {"loss_largest": float(losses[0]), "loss_smallest": float(losses[-1])}
        line |= {"lr": self.state.optimizer.param_groups[0]["lr"], "seconds": round(self.seconds, 2)}
        if last_of_epoch and (epoch % self.config.evaluate_epochs == 0 or self.step == self.total_steps):
            line |= self._evaluate()
        if last_of_epoch or self.step % 50 == 0:
            append_json_line(self._metrics_path, line)
            extend_curves(self.directory, line)

    # --- evaluation ---------------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, float]:
        """Validation accuracy of the extremes with the averaged weights."""
        largest, smallest = self.top1s([self.space.largest, self.space.smallest])
        return {"top1_largest": largest, "top1_smallest": smallest}

    def _top1(self, supernet: ElasticNetwork, architecture: Architecture) -> float:
        network = supernet.extract(architecture)
        network = network.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        resolution = architecture.resolution
        recalibrate(network, (images for images, _ in self._inputs(self.dataset.recalibration, resolution)))
        return top1(network, self._inputs(self.dataset.validation, resolution))

    def _inputs(self, split: ImageSet, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.accelerator.device
        for start in range(0, len(split), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            x = to_input(split.pixels[rows].to(device), resolution, self.dataset.mean, self.dataset.std)
            yield x.contiguous(memory_format=torch.channels_last), split.labels[rows].to(device)

    def _averaged_model(self) -> ElasticNetwork:
        averaged = copy.deepcopy(self.model)
        averaged.load_state_dict(self.model.state_dict() | self.state.average)
        return averaged.eval()

    def _finish(self) -> SupernetRecord:
        metrics = self._evaluate()
        dataset = self.dataset
        record = SupernetRecord(
            space=self.space.name,
            num_classes=self.space.num_classes,
            weights_sha256="",
            dataset=DatasetRecord(
                name=dataset.name,
                fingerprint=dataset.fingerprint,
                class_names=dataset.class_names,
                mean=dataset.mean,
                std=dataset.std,
                train_images=len(dataset.train),
            ),
            training={
                "config": self.config.model_dump(mode="json"),
                "steps": self.step,
                "seconds": round(self.seconds, 1),
                "torch": torch.__version__,
            },
            metrics={f"validation_{name}": value for name, value in metrics.items()},
        )
        if self.accelerator.is_main_process:
            record = save_supernet(self.directory, self._averaged_model(), record)
        self.accelerator.wait_for_everyone()
        return record


def _copy_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _average_gradients(model: torch.nn.Module, accelerator: Accelerator) -> None:
    """Mean gradient over the processes, in one transfer.

    Torch's DistributedDataParallel is not used: it synchronises at every backward pass and wants each parameter
    in each of them, while a step here has several passes over different parts of the weights.
    """
    with_gradient = [p for p in model.parameters() if p.grad is not None]
    gradients = [p.grad for p in with_gradient if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = accelerator.reduce(flat, reduction="mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
