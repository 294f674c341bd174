"""What the runtimes ``tensorrt`` and ``tensorrt_rtx`` have in common.

One code path leads from TensorRT 8.5 to 11 and to TensorRT-RTX: what a version can do is asked of its names, which
:mod:`.names` lists, and never guessed from its number.
"""
