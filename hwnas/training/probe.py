"""A published network that learns to tell the user's classes apart, so that it can teach them.

Its layers stay as they are; its classifier becomes a logistic regression on its pooled features of the training images
as they are, known as a linear probe (Alain and Bengio 2016; Kornblith et al. 2019, "Do Better ImageNet Models Transfer
Better?").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import LBFGS

from hwnas.data import Dataset
from hwnas.errors import UserError
from hwnas.progress import Progress
from hwnas.supernet import PlainNetwork
from hwnas.supernet.importing import LITE2
from hwnas.training.teachers import Teacher, has_imagenet_classes, lite2_teacher, supernet_teacher
from hwnas.training.tensor_file import read_metadata, read_tensors, write_tensors

IMAGES_A_CLASS = 500
"""At the most; a linear classifier gains little by more."""
CHUNK = 64
"""Images whose features are computed and kept together: a kill costs each process at most so much work."""
HELD_OUT = 5
"""Every fifth image of a class says which strength of regularisation is best."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse ones, of the penalty on weights of standardised features beside the sum of cross entropies."""
ITERATIONS = 300
DIRECTORY, CLASSIFIER_FILE = "teacher", "classifier.safetensors"
_WHAT, _OF = "fitted teacher", "of"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Probe:
    """A teacher to be fitted: as it was published, the SHA-256 of its weights, and whose classes it is to teach."""

    teacher: Teacher
    sha256: str
    dataset: Dataset

    def fit(self, run: Path, accelerator: Accelerator, progress: Progress) -> Teacher:
        """The teacher of the data set's classes.

        Features and classifier are kept in the directory of the run, so that it goes on where it was killed; all
        processes compute features, and one fits.

        Raises:
            BadFileError: a file there is not as it was written.
            UserError: a class has no training image.
        """
        path, head = run / DIRECTORY / CLASSIFIER_FILE, cast(PlainNetwork, self.teacher.network)[-1]
        if not self._kept(path):
            rows = chosen_images(self.dataset)
            chunks = {
                path.with_name(f"features-{begin:07}.safetensors"): rows[begin : begin + CHUNK]
                for begin in range(0, len(rows), CHUNK)
            }
            head.classifier = nn.Identity()
            self._extract(chunks, accelerator, progress)
            if accelerator.is_main_process:
                features = torch.cat([read_tensors(chunk, _WHAT)["features"] for chunk in chunks])
                self._keep(path, fit_classifier(features, self.dataset.train.labels[rows], progress))
                for chunk in chunks:
                    chunk.unlink()
            accelerator.wait_for_everyone()
        found = read_tensors(path, _WHAT)
        top1 = float(found.pop("held_out_top1"))
        classes, inputs = found["weight"].shape
        head.classifier = nn.Linear(inputs, classes).requires_grad_(False)
        head.classifier.load_state_dict(found)
        head.to(accelerator.device)
        return replace(self.teacher, held_out_top1=top1)

    @torch.no_grad()
    def _extract(self, chunks: Mapping[Path, Tensor], accelerator: Accelerator, progress: Progress) -> None:
        """Write the features [n, features] of each chunk's images, where they are not there yet."""
        pixels, process, processes = self.dataset.train.pixels, accelerator.process_index, accelerator.num_processes
        mine = list(chunks.items())[process::processes]
        missing = [(path, rows) for path, rows in mine if not self._kept(path)]
        total, left = (sum(len(rows) for _, rows in share) for share in (mine, missing))
        progress.start("features of the teacher", total, total - left, "image")
        for path, rows in missing:
            features = self.teacher(pixels[rows].to(accelerator.device))
            self._keep(path, {"features": features.cpu()})
            progress.advance(len(rows))
        progress.finish()
        accelerator.wait_for_everyone()

    def _keep(self, path: Path, tensors: Tensors) -> None:
        write_tensors(path, tensors, {_OF: self._identity})

    def _kept(self, path: Path) -> bool:
        """Whether there is a file, and it is of this teacher and these images."""
        return path.exists() and read_metadata(path, _WHAT).get(_OF) == self._identity

    @property
    def _identity(self) -> str:
        made_of = (self.sha256, self.dataset.fingerprint, IMAGES_A_CLASS, CHUNK, HELD_OUT, STRENGTHS, ITERATIONS)
        return hashlib.sha256(repr(made_of).encode()).hexdigest()


def external_teacher(named: str, dataset: Dataset, device: torch.device) -> tuple[Teacher | Probe, str]:
    """The teacher that a training names, and the SHA-256 of its weights.

    Args:
        named: ``efficientnet-lite2``, which teaches ImageNet's classes as it is and others when it has been fitted, or
            the directory of a supernet of the same classes.

    Raises:
        BadFileError: its weights cannot be read, or are others.
        UserError: it knows other classes, or its weights are not installed.
    """
    if named != LITE2:
        return supernet_teacher(Path(named), dataset, device)
    teacher, sha256 = lite2_teacher(device)
    return teacher if has_imagenet_classes(dataset) else Probe(teacher, sha256, dataset), sha256


def chosen_images(dataset: Dataset) -> Tensor:
    """Positions of up to :data:`IMAGES_A_CLASS` training images of each class, ascending; always the same ones.

    Raises:
        UserError: a class has none.
    """
    labels = dataset.train.labels
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    of_classes = [shuffled[labels[shuffled] == c][:IMAGES_A_CLASS] for c in range(dataset.num_classes)]
    absent = next((name for name, rows in zip(dataset.class_names, of_classes, strict=True) if not len(rows)), None)
    if absent is not None:
        raise UserError(f"Class '{absent}' of {dataset.name} has no training image, so that no teacher can be fitted.")
    return torch.cat(of_classes).sort().values


def fit_classifier(features: Tensor, labels: Tensor, progress: Progress) -> dict[str, Tensor]:
    """Weight [classes, features] and bias [classes] of the classifier, and its ``held_out_top1``, in 0..1.

    How strongly it is regularised is chosen by cross entropy on the images held out; it is then fitted to all.  Where
    no class has enough images to hold one out, the strongest is taken, and the accuracy is NaN.

    Args:
        features: float32 [n, features].
        labels: class numbers [n], of each class at least one.
    """
    centre, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    standard = (features - centre) / scale
    place = torch.zeros_like(labels)
    for c in set(labels.tolist()):
        place[labels == c] = torch.arange(int((labels == c).sum()))
    held = place % HELD_OUT == HELD_OUT - 1
    best, top1 = (math.inf, STRENGTHS[0]), math.nan
    strengths = STRENGTHS if held.any() else ()
    progress.start("classifier of the teacher", len(strengths) + 1, unit="fit")
    for strength in strengths:
        weight, bias = _regression(standard[~held], labels[~held], strength)
        logits = standard[held] @ weight.T + bias
        loss = nn.functional.cross_entropy(logits, labels[held]).item()
        if loss < best[0]:
            best, top1 = (loss, strength), (logits.argmax(1) == labels[held]).float().mean().item()
        progress.advance()
    weight, bias = _regression(standard, labels, best[1])
    progress.advance()
    progress.finish()
    weight = weight / scale
    return {"weight": weight, "bias": bias - weight @ centre, "held_out_top1": torch.tensor(top1)}


def _regression(features: Tensor, labels: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a multinomial logistic regression; torch's, since its sums are in one order each time."""
    classes = int(labels.max()) + 1
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * strength * len(labels))
        value = nn.functional.cross_entropy(features @ weight.T + bias, labels) + penalty
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
