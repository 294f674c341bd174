"""Detectors: anchors, what a detector learns from them, and what is found with them."""
