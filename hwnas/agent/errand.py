"""``hwnas-agent.pyz profile PLAN > RESULTS``: measure what a plan says on a board that no host reaches.

The plan is one JSON object: ``asked`` (given back as it is), ``compile`` (fields of a compile request), ``canaries``,
``learn_s``, ``seconds`` (when to begin no further unit, or null), ``models`` (SHA-256 to base64), ``settings`` (fields
of a request that changes settings, or null) and ``units``, each with a name, the hash of its model and a measuring
protocol.  It is asked of the agent as a host would.  Results are
JSON lines: ``{"schema": 1, "kind": "agent-results", "asked", "fingerprint"}``, then
``{"unit", "seconds", "measurement", "error"}`` for each, and ``{"fingerprint"}`` in the end.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from .cooling import Heat, TooHotError, cool_down
from .environment import begin_undisturbed
from .private import scratch
from .protocol import AgentError, ErrorKind, Fields, Message, encode

Ask = Callable[..., Message]


def main(path: str) -> int:
    """Run the plan in ``path``; results go to stdout, and how far it is to stderr."""
    begin_undisturbed()

    from .processes import claim_stdout
    from .server import Agent

    results = claim_stdout()
    with scratch() as home:
        agent = Agent(home)

        def ask(request: str, **fields: Any) -> Message:
            reply = agent.answer(encode(dict(fields, request=request)))
            if reply["ok"]:
                result: Message = reply["result"]
                return result
            raise AgentError(reply["error"]["kind"], reply["error"]["message"])

        def tell(message: Message) -> None:
            results.write(encode(message))
            results.flush()

        agent.restore_settings()
        try:
            run(read_plan(Path(path)), ask, tell)
        except (OSError, AgentError, TooHotError) as error:
            sys.stderr.write("%s: %s\n" % (path, error))
            return 1
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; what was measured is in the results\n")
            return 130
        finally:
            agent.close()
    return 0


def read_plan(path: Path) -> Fields:
    """The plan.

    Raises:
        OSError: it cannot be read.
        AgentError: ``bad-request``, when it is none.
    """
    try:
        plan = json.loads(path.read_bytes())
    except ValueError as error:
        raise AgentError(ErrorKind.BAD_REQUEST, "it is not JSON (%s)" % error) from error
    if not isinstance(plan, dict) or plan.get("kind") != "agent-plan" or plan.get("schema") != 1:
        raise AgentError(ErrorKind.BAD_REQUEST, "it is no plan of this version of hwnas; make it by the same version")
    return Fields(plan)


def run(plan: Fields, ask: Ask, tell: Callable[[Message], None], clock: Callable[[], float] = time.monotonic) -> None:
    """Measure the plan's units in order, and tell of each as soon as it is measured."""
    compiling, models = plan.record("compile"), plan.record("models")
    seconds = plan.number("seconds") if plan.has("seconds") else None
    if plan.has("settings"):
        ask("change-settings", **plan.record("settings"), **compiling)
    start = clock()
    tell({"schema": 1, "kind": "agent-results", "asked": plan.record("asked"), "fingerprint": _probe(ask, compiling)})
    for canary in plan.items("canaries"):
        ask("learn-fast-state", canary=canary, seconds=plan.number("learn_s"), **compiling)
    units = plan.items("units")
    for number, unit in enumerate(units):
        if seconds is not None and clock() - start > seconds:
            break
        begun = clock()
        record = _measured(Fields(unit), models, compiling, ask)
        tell(dict(record, seconds=clock() - begun))
        sys.stderr.write("\r" + _progress(number + 1, len(units), clock() - start, seconds))
    sys.stderr.write("\n")
    tell({"fingerprint": _probe(ask, compiling)})


def _measured(unit: Fields, models: Dict[str, str], compiling: Message, ask: Ask) -> Message:
    """What became of one unit."""
    record: Message = {"unit": unit.text("unit"), "measurement": None, "error": None}
    sha256 = unit.text("sha256")
    engine: Optional[str] = None
    try:
        _send(sha256, models[sha256], ask)
        engine = ask("compile", sha256=sha256, **compiling)["engine"]
        protocol = unit.record("protocol")
        pause = _cool_down(protocol, compiling, ask)
        record["measurement"] = dict(ask("measure", engine=engine, protocol=protocol), pause=pause)
    except KeyError:
        record["error"] = "the plan lacks its model"
    except AgentError as error:
        record["error"] = error.message
    ask("release", sha256=sha256, **({} if engine is None else {"engine": engine}))
    return record


def _cool_down(protocol: Message, compiling: Message, ask: Ask) -> Optional[Message]:
    """Wait until the board is cool enough to be measured.

    Raises:
        TooHotError: it does not become so.
    """
    pause = cool_down(
        lambda: Heat(**ask("heat", **compiling)),
        Fields(protocol).number("temperature_limit_c", 0.0) or None,
        tell=lambda note: print("\r" + note, end="   ", file=sys.stderr, flush=True),
    )
    return None if pause is None else pause.as_record()


def _progress(done: int, of: int, spent_s: float, seconds: Optional[float]) -> str:
    """How far it is, in one line."""
    left_s = (of - done) * spent_s / done
    if seconds is not None:
        left_s = min(left_s, max(0.0, seconds - spent_s))
    return "%d of %d, %.1f s each, about %.0f s left   " % (done, of, spent_s / done, left_s)


def _send(sha256: str, model: str, ask: Ask) -> None:
    ask("put-blob", sha256=sha256, offset=0, size=len(base64.b64decode(model)), data=model)


def _probe(ask: Ask, compiling: Message) -> Message:
    return ask("fingerprint", **compiling)
