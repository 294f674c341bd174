"""What the report and the summary of a finished run are told from, beside the run itself."""

from __future__ import annotations

from hwnas.files import read_model
from hwnas.pipeline.documents import FinalistsDocument
from hwnas.pipeline.run.finetuning import finetuned
from hwnas.pipeline.run.run import Run
from hwnas.pipeline.run.search import RunSearch
from hwnas.pipeline.run.winner import FINALISTS_FILE


class Results:
    """What was searched, and what was measured of it.

    Attributes:
        search: what the search found.
        refined: what was evaluated once the finalists' measurements were known.
        evaluations: both, in order.
        evaluation: of the winner.
        finetuned: what fine-tuning made of it; None where it was not asked for.
    """

    def __init__(self, run: Run, search: RunSearch) -> None:
        self.finalists = read_model(run.directory / FINALISTS_FILE, FinalistsDocument, what="finalists")
        self.search = search.result
        self.refined = search.refined()
        self.evaluations = (*self.search.evaluations, *self.refined)
        self.evaluation = next(e for e in self.evaluations if e.architecture.id == run.winner.id)
        self.finetuned = finetuned(run)
