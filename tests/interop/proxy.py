"""A TCP proxy that cuts its connections: a bad link between two brokers.

It runs in a thread of its own. A cut resets both sides, with whatever was on its way lost; new connections are accepted at
once. Nothing here speaks MQTT.
"""

import asyncio
import random
import socket
import struct
import threading

CHUNK_BYTES = 4096

# Reset instead of an orderly end, so that what is in the buffers is lost.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes connections on to a port of this machine. With `cut_every`, it cuts all of them after random times of this mean."""

    def __init__(self, target, cut_every=None, seed=1):
        self.target = target
        self.cuts = 0
        self._cut_every = cut_every
        self._random = random.Random(seed)
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._stopping = asyncio.Event()
        self._thread.start()

    def heal(self):
        """No further cuts."""
        self._cut_every = None

    def cut(self):
        """Cuts every connection there is."""
        self._loop.call_soon_threadsafe(self._cut)

    def stop(self):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self):
        server = await asyncio.start_server(self._pass_on, sock=self._socket)
        cutter = asyncio.create_task(self._cut_again_and_again())
        await self._stopping.wait()
        cutter.cancel()
        server.close()
        self._cut()

    async def _cut_again_and_again(self):
        while self._cut_every is not None:
            await asyncio.sleep(self._random.expovariate(1 / self._cut_every))
            if self._cut_every is not None:
                self._cut()

    def _cut(self):
        self.cuts += bool(self._writers)
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        self._writers.clear()

    async def _pass_on(self, reader, writer):
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, there_writer}
        self._writers |= ends
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        self._writers -= ends


async def _copy(reader, writer):
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
