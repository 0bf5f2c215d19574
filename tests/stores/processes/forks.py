"""Processes that begin quickly: forks of a server that has imported what they need."""

from __future__ import annotations

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.stores.processes.fleet_writer", "tests.stores.processes.answering"]
)
