"""The program that runs on the device: probe, compile, measure, infer, over JSON lines on stdin and stdout.

It needs Python 3.8 or newer, the standard library, NumPy and a runtime of the device; nothing else of hwnas.
Start it with ``python -m hwnas.agent --home DIR``.
"""
