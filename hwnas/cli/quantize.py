"""``hwnas quantize``: an ONNX file in FP16 or INT8, with what that costs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, out, percent, print_json, print_table

if TYPE_CHECKING:
    from hwnas.export import QuantizationRecord


class Precision(StrEnum):
    """What the model is brought to."""

    INT8 = "int8"
    FP16 = "fp16"


class Remainder(StrEnum):
    """Of what is not in INT8."""

    FP16 = "fp16"
    FP32 = "fp32"


class Calibration(StrEnum):
    """How the largest value of an activation is found."""

    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MIN_MAX = "min-max"


class Tool(StrEnum):
    """What quantises."""

    AUTO = "auto"
    MODELOPT = "nvidia-modelopt"
    ONNXRUNTIME = "onnxruntime"


@command
def quantize(
    model: Annotated[Path, typer.Argument(help="A float32 ONNX file with one static input [batch, 3, r, r].")],
    output: Annotated[Path, typer.Option("--out", help="The ONNX file.")],
    data: Annotated[str, typer.Option(help="Data set: calibrates, chooses layers, gives the figures.")],
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    precision: Annotated[Precision, typer.Option(help="INT8 is always shown beside FP16.")] = Precision.INT8,
    remainder: Annotated[
        Remainder, typer.Option(help="With int8, precision of the rest; fp16 needs TensorRT 10, 8.5 reads fp32.")
    ] = Remainder.FP16,
    max_drop: Annotated[float, typer.Option(help="Top-1 that may be lost against FP32, in points.")] = 0.5,
    calibration: Annotated[
        Calibration, typer.Option(help="How the largest value of an activation is found.")
    ] = Calibration.PERCENTILE,
    images: Annotated[int, typer.Option(help="Calibration images, of the training split.")] = 512,
    choice_images: Annotated[
        int, typer.Option(help="Images of the validation split on which sensitive layers are found.")
    ] = 1000,
    scored_images: Annotated[
        int | None, typer.Option(help="Images of the test split for the figures; default: all.")
    ] = None,
    finetune: Annotated[
        int, typer.Option(min=0, help="Steps of fine-tuning for INT8 if it loses too much; 0: none.")
    ] = 0,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Of the fine-tuning.")] = 1e-4,
    tool: Annotated[Tool, typer.Option(help="auto: nvidia-modelopt where it is installed.")] = Tool.AUTO,
    keep_io: Annotated[
        bool, typer.Option("--float-io/--half-io", help="Whether an FP16 model takes and gives FP32.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Quantise a model; layers that suffer stay in higher precision until the loss is within --max-drop.

    Ends with status 1, the model written all the same, if the loss on the test images is greater.
    """
    import torch

    from hwnas.data import load_dataset
    from hwnas.export import FineTuning, QuantizationOptions, load_model, quantization_images
    from hwnas.export import quantize as quantize_model
    from hwnas.files import write_atomic

    torch.set_num_threads(1)
    dataset = load_dataset(data, root=data_root)
    source = load_model(model)
    used = quantization_images(source, dataset, calibration=images, choice=choice_images, scored=scored_images)
    options = QuantizationOptions(
        precision=precision.value,
        remainder=remainder.value,
        calibration=calibration.value,
        max_drop=max_drop,
        tool=tool.value,
        keep_io=keep_io,
        finetuning=FineTuning(steps=finetune, learning_rate=learning_rate) if finetune else None,
    )
    with bars() as progress:
        result = quantize_model(source, used, options, progress)
    write_atomic(output, result.model.SerializeToString(deterministic=True))
    if json:
        print_json({"path": str(output)} | result.record.model_dump(mode="json", by_alias=True))
    else:
        _show(output, result.record)
    result.record.require_kept(output)


def _show(output: Path, record: QuantizationRecord) -> None:
    rows = []
    for name, scored in record.scores.items():
        loss = scored.loss
        lost = "–" if loss is None else f"{loss.points:.2f}"
        interval = "–" if loss is None else f"{loss.low:.2f} to {loss.high:.2f}"
        label = f"INT8 and {record.remainder}" if name == "int8" else name.upper()
        size = f"{scored.size_bytes / 2**20:.2f} MiB"
        rows.append([label, percent(scored.top1), lost, interval, size])
    title = f"{output}: top-1 on {record.scored_on.images} {record.scored_on.split} images"
    print_table(title, ["", "top-1", "points lost", "95 % interval", "size"], rows)
    tools = {name.upper(): scored.made_by for name, scored in record.scores.items() if scored.loss is not None}
    out.print("; ".join(f"{name} by {tool}" for name, tool in tools.items()) + ".", soft_wrap=True)
    if record.calibrated_on is not None and record.chosen_on is not None:
        out.print(
            f"Calibrated ({record.calibration}) on {record.calibrated_on.images} {record.calibrated_on.split} images; "
            f"layers chosen on {record.chosen_on.images} {record.chosen_on.split} images; no image has two uses.",
            soft_wrap=True,
        )
        left = ", ".join(record.left) or "none"
        out.print(f"{len(record.left)} of {record.layers} layers left in higher precision: {left}.", soft_wrap=True)
        if record.never:
            out.print(f"Never in INT8: {', '.join(record.never)}.", soft_wrap=True)
    if record.finetuning:
        tuned = record.finetuning
        out.print(
            f"Fine-tuned for {tuned['steps']:.0f} steps on {tuned['images']:.0f} training images: divergence from FP32 "
            f"{tuned['divergence_first']:.4f} at first, {tuned['divergence_last']:.4f} at last.",
            soft_wrap=True,
        )
