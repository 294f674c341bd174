"""Serving on a board: one process that answers over HTTP with the model of the active slot.

    main thread        signals, heat, the watchdog, the end                            main.py
    accepting thread   a thread for each connection: reads, waits for the answer       server.py, handler.py, routes.py
    watching thread    ``current``: has another slot loaded beside the one that serves watching.py, service.py
    slot's thread      one a loaded slot: has its engines, does one job at a time      executor.py, loading.py

A request is bound to the slot and model that serve when it is accepted; jobs are done in the order in which they came,
so a slot is unloaded by the job behind the last one of its requests.  An engine belongs to the thread that made it, as
CUDA wants it.  A pause is a job too: when its turn comes, all requests before it are done.
"""
