"""Signed bundles, and their way to boards."""
