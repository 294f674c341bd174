"""``hwnas profile``: a latency table of a device."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import AcceptNewOption, JsonOption, Terminal, bars, command, err, out, print_json
from hwnas.cli.figures import print_boards, print_figures
from hwnas.questions import answered_by

if TYPE_CHECKING:
    from hwnas.devices import DeviceSettings, Target
    from hwnas.latency import ProfileOptions
    from hwnas.spaces import Space


@command
def profile(
    target: Annotated[str, typer.Option(help="Name of a target, or its YAML file.")] = "host-cpu",
    space: Annotated[str, typer.Option(help="Search space, FAMILY/PRESET.")] = "mobilenet_v3/small",
    minutes: Annotated[float, typer.Option(min=0.05, help="Time to measure; what is missing then is said.")] = 10.0,
    good_enough: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Fit to no more networks once each is predicted from the others with this mean error, %."
        ),
    ] = None,
    networks_only: Annotated[
        int | None,
        typer.Option(min=5, help="Few-shot: no blocks, but so many whole networks, and half as many held out."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of classes; default: the preset's own.")] = None,
    resolutions: Annotated[
        str | None, typer.Option(help="Resolutions to measure, such as 24,44,64; default: as many as fit the time.")
    ] = None,
    tables: Annotated[Path, typer.Option(help="Directory of all latency tables.")] = Path("latency_tables"),
    seed: Annotated[int, typer.Option(min=0, help="Of the order of measuring and the networks drawn.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what earlier profiles of this device measured.")
    ] = False,
    statistic: Annotated[
        str, typer.Option(help="What budgets will limit: p50, or p99, which takes more samples.")
    ] = "p50",
    fps: Annotated[
        float, typer.Option(min=0, help="Frames a second that arrive; default, 0: runs back to back.")
    ] = 0.0,
    runtime: Annotated[str | None, typer.Option(help="What executes models; default: the target's.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="What the runtime computes on, by its own name; default: the target's.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16, bf16 or int8; default: the target's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor; default: the target's.")] = None,
    power_mode: Annotated[
        str | None,
        typer.Option(help="Set a Jetson's power mode, by nvpmodel's name, while it is measured, and set it back."),
    ] = None,
    lock_clocks: Annotated[
        bool, typer.Option("--lock-clocks", help="Keep the device's clocks still while it is measured.")
    ] = False,
    ssh: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a board of the target is: USER@HOST:PORT, the host alone if the rest is usual. Several boards, "
            "each with an --ssh of its own, measure side by side."
        ),
    ] = None,
    accept_new: AcceptNewOption = False,
    plan: Annotated[
        Path | None,
        typer.Option(
            help="Measure nothing, but write what is to be measured to this file and the agent beside it, for a board "
            "that nobody may log in to."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure blocks and whole networks on a device, and say how well the table predicts held-out networks.

    Killed or interrupted, the same command goes on where it stopped, also with other boards of the kind.
    """
    from hwnas.cli.checks import check_statistic

    percentile = check_statistic(statistic)

    from hwnas.devices import DeviceSettings, RuntimeChoice, boards_at, load_target, open_device
    from hwnas.errors import UserError
    from hwnas.latency import Board, ProfileOptions, profile_together
    from hwnas.spaces import get_space

    chosen = None
    if resolutions is not None:
        try:
            chosen = tuple(int(part) for part in resolutions.split(","))
        except ValueError as error:
            raise UserError(f"--resolutions takes pixels with commas between, not '{resolutions}'.") from error
    described = load_target(target)
    options = ProfileOptions(
        minutes=minutes,
        resolutions=chosen,
        good_enough_percent=good_enough,
        networks_only=networks_only,
        seed=seed,
        fresh=fresh,
        statistic=percentile,
        fps=fps,
        compile=RuntimeChoice(runtime, provider, precision, threads).options(described),
    )
    settings = DeviceSettings(power_mode, lock_clocks)
    if plan is not None:
        if ssh:
            raise UserError("--plan is for a board that nobody may log in to, so no --ssh belongs to it.")
        _write_plan(described, get_space(space, classes), options, settings, plan, json=json)
        return
    with answered_by(Terminal(accept_new)), ExitStack() as stack:
        boards = []
        for each in boards_at(described, ssh) if ssh else [described]:
            device = stack.enter_context(open_device(each))
            changed = stack.enter_context(device.changed(settings, options.compile))
            if settings.any:
                where = each.address if ssh else target
                err.print(f"Set on {where}: {changed}. It is set back in the end.", soft_wrap=True, highlight=False)
            boards.append(Board(each.address, device, interrupt=device.interrupt))
        progress = stack.enter_context(bars())
        table, path = profile_together(boards, get_space(space, classes), tables, options, progress)
    if json:
        figures = table.validation.model_dump(mode="json") if table.validation else None
        print_json(
            {
                "table": str(path),
                "blocks": len(table.blocks),
                "networks": len(table.networks),
                "boards": [board.model_dump(mode="json") for board in table.boards],
                "missing": table.missing.model_dump(mode="json"),
                "validation": figures,
            }
        )
        return
    out.print(f"[bold]{path}[/]: {len(table.blocks)} blocks and {len(table.networks)} networks", soft_wrap=True)
    print_boards(table)
    print_figures(table)


def _write_plan(
    target: Target, space: Space, options: ProfileOptions, settings: DeviceSettings, path: Path, *, json: bool
) -> None:
    from hwnas.devices.zipapp import agent_zipapp
    from hwnas.files import write_atomic
    from hwnas.latency.errand import write_errand

    agent = path.with_name("hwnas-agent.pyz")
    written = write_errand(target, space, options, path, settings)
    write_atomic(agent, agent_zipapp())
    if json:
        print_json({"plan": str(path), "agent": str(agent), "units": len(written.units)})
        return
    out.print(
        f"[bold]{path}[/]: {len(written.units)} builds to measure. Take it to the board with {agent} and run there\n"
        f"  python3 {agent.name} profile {path.name} > results.jsonl\n"
        "and here, with what comes back,\n"
        "  hwnas tables import profile results.jsonl",
        soft_wrap=True,
        highlight=False,
    )
