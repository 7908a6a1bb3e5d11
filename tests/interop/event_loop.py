"""An asyncio event loop on a thread of its own, for the clients that want one, under tests that block."""

import asyncio
import threading

from interop.broker import PATIENCE_SECONDS

_loop = asyncio.new_event_loop()
# A daemon, because a client that failed may leave a task behind that never ends.
threading.Thread(target=_loop.run_forever, daemon=True).start()


def run(coroutine):
    """Runs it to its end, and returns its result."""
    return start(coroutine).result(PATIENCE_SECONDS)


def start(coroutine):
    """Begins to run it; what was started first begins first."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop)
