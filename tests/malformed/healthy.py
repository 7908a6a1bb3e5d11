"""A publisher and a subscriber that exchange QoS 2 messages all the time, with a ledger of every one.

Both run on a thread of their own over raw connections. The publisher keeps a few messages in flight; the subscriber
checks that each arrives exactly once and in order. Whatever happens to other connections must not show here.
"""

import select
import struct
import threading
import time

from malformed.wire import (
    PATIENCE_SECONDS,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    Closed,
    Connection,
    acknowledge,
    connect,
    describe,
    publish,
    subscribe,
)

WINDOW = 4
PAUSE_SECONDS = 0.001


class HealthyPair:
    def __init__(self, broker, version):
        self.version = version
        self.published = 0
        self.completed = 0
        self.delivered = 0
        self.fault = None
        self._topic = f"healthy/{version}".encode()
        self._held = set()
        self._free_ids = list(range(1, WINDOW + 1))
        self._stopping = threading.Event()
        self._subscriber = Connection(broker)
        self._publisher = Connection(broker)
        self._subscriber.open_session(connect(version, client_id=f"healthy-subscriber-{version}".encode()))
        self._publisher.open_session(connect(version, client_id=f"healthy-publisher-{version}".encode()))
        self._subscriber.send(subscribe(version, self._topic, options=2))
        self._subscriber.await_frame(SUBACK)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def assert_goes_on(self):
        """Waits for a few more deliveries."""
        goal = self.delivered + WINDOW
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.delivered < goal:
            if self.fault is not None:
                raise AssertionError(f"the healthy pair was hurt: {self.fault}")
            if time.monotonic() > deadline:
                raise AssertionError("the healthy pair stands still")
            time.sleep(PAUSE_SECONDS)

    def finish(self):
        """Completes what is in flight and balances the ledger."""
        self._stopping.set()
        self._thread.join(PATIENCE_SECONDS)
        self._subscriber.socket.close()
        self._publisher.socket.close()
        counts = f"{self.published} published, {self.completed} completed, {self.delivered} delivered"
        if self._thread.is_alive() or self.fault is not None:
            raise AssertionError(f"the healthy pair did not complete ({counts}): {self.fault}")
        if not self.published == self.completed == self.delivered:
            raise AssertionError(f"the ledger does not balance: {counts}")

    def _run(self):
        try:
            while not self._stopping.is_set() or self._in_flight():
                while self._free_ids and not self._stopping.is_set():
                    payload = struct.pack(">Q", self.published)
                    self._publisher.send(publish(self.version, self._topic, 2, self._free_ids.pop(0), payload=payload))
                    self.published += 1
                sockets = {self._publisher.socket: self._on_publisher, self._subscriber.socket: self._on_subscriber}
                for ready in select.select(list(sockets), [], [], PATIENCE_SECONDS)[0]:
                    sockets[ready]()
                time.sleep(PAUSE_SECONDS)
        except (Closed, OSError, AssertionError) as fault:
            self.fault = fault

    def _in_flight(self):
        return self.completed < self.published or self.delivered < self.published or self._held

    def _on_publisher(self):
        self._publisher.receive()
        while (frame := self._publisher.take_frame()) is not None:
            (packet_id,) = struct.unpack_from(">H", frame[1])
            if frame[0] == PUBREC:
                self._publisher.send(acknowledge(PUBREL, packet_id))
            elif frame[0] == PUBCOMP:
                self._free_ids.append(packet_id)
                self.completed += 1
            else:
                raise AssertionError(f"the publisher received {describe(frame)}")

    def _on_subscriber(self):
        self._subscriber.receive()
        while (frame := self._subscriber.take_frame()) is not None:
            if frame[0] == PUBLISH | 2 << 1:
                at = 2 + len(self._topic)
                (packet_id,) = struct.unpack_from(">H", frame[1], at)
                (sequence,) = struct.unpack(">Q", frame[1][-8:])
                if sequence != self.delivered or packet_id in self._held:
                    raise AssertionError(f"message {sequence} as id {packet_id}, when {self.delivered} was due")
                self._held.add(packet_id)
                self.delivered += 1
                self._subscriber.send(acknowledge(PUBREC, packet_id))
            elif frame[0] == PUBREL:
                (packet_id,) = struct.unpack_from(">H", frame[1])
                self._held.discard(packet_id)
                self._subscriber.send(acknowledge(PUBCOMP, packet_id))
            else:
                raise AssertionError(f"the subscriber received {describe(frame)}")
