"""Slots: signed bundles on the board's disk, one of which ``current`` points at.

Nothing unsigned is ever loaded; whatever fails or is killed at any moment, ``current`` is wholly the old or wholly the
new slot.
"""
