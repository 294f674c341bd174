"""Serving on a board: one process that answers over HTTP with the model of the active slot.

    main thread        signals, watchdog, the end                                      main.py
    HTTP threads       one a connection: reads a request, waits for its answer         server.py, handler.py
    watching thread    ``current``, heat, budget: loads a slot beside the old one      watching.py, loading.py
    executor threads   one a loaded slot: has its engines, does one job at a time      executor.py

A request is bound to the slot and model that serve when it is accepted; jobs are done in the order in which they came,
so a slot is unloaded by the job behind the last one of its requests.  An engine belongs to the thread that made it, as
CUDA wants it.
"""
