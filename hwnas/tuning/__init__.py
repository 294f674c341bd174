"""Tuning of a training's hyper-parameters by successive halving; an NNI experiment drives.

What runs where:

- The tuner (``halving.py``) and the record (``record.py``) are in the process of the user's command (``tuning.py``).
- NNI's server, a child of it, launches a trial for each run that the tuner proposes; its web page shows them.  It is
  the one that a search with workers starts, see :mod:`hwnas.search.service.server` and ``experiment.py``.
- A trial (``trial.py``) trains one configuration from where the rung below left it to the end of its rung, measures
  it (``shortrun.py``) and writes the result beside its weights (``trials.py``), where the tuning finds it.

When the tuning's process dies, by whatever, trials and NNI's server end themselves.
"""
