"""Hardware-aware neural architecture search for edge deployment."""

__version__ = "0.1.0"
