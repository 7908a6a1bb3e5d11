"""What one case is, what may legitimately come of it, and how it is run."""

import dataclasses
from collections.abc import Callable

from malformed.wire import (
    CONNACK,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    V5,
    V311,
    Closed,
    Connection,
    connect,
    describe,
    reason,
)

MALFORMED = 0x81
PROTOCOL_ERROR = 0x82
UNSUPPORTED_VERSION = 0x84
IDENTIFIER_NOT_VALID = 0x85
BAD_USER_NAME_OR_PASSWORD = 0x86
NOT_AUTHORIZED = 0x87
BAD_AUTHENTICATION_METHOD = 0x8C
KEEP_ALIVE_TIMEOUT = 0x8D
TOPIC_FILTER_INVALID = 0x8F
TOPIC_NAME_INVALID = 0x90
PACKET_IDENTIFIER_NOT_FOUND = 0x92
RECEIVE_MAXIMUM_EXCEEDED = 0x93
TOPIC_ALIAS_INVALID = 0x94
PACKET_TOO_LARGE = 0x95

# Where the standard says "malformed or protocol error" without saying which, or implies both.
EITHER_ERROR = (MALFORMED, PROTOCOL_ERROR)


@dataclasses.dataclass
class Observation:
    """What the hostile connection saw after its session was open (or from the start, if it opened none)."""

    version: int
    frames: list
    closed: bool

    def last_of(self, kind):
        found = [frame for frame in self.frames if frame[0] & 0xF0 == kind]
        return reason(self.version, found[-1]) if found else None

    def __str__(self):
        end = "closed" if self.closed else "still open"
        return f"{end} after [{', '.join(describe(frame) for frame in self.frames)}]"


@dataclasses.dataclass(frozen=True)
class SilentClose:
    """The connection ends and no packet says why: all that 3.1.1 allows, and 5.0 before the version is known."""

    def matches(self, seen):
        return seen.closed and seen.last_of(DISCONNECT) is None and seen.last_of(CONNACK) is None


@dataclasses.dataclass(frozen=True)
class Disconnected:
    """The connection ends with a DISCONNECT that carries one of these codes."""

    codes: tuple

    def matches(self, seen):
        return seen.closed and seen.frames[-1:] != [] and seen.last_of(DISCONNECT) in self.codes


@dataclasses.dataclass(frozen=True)
class Refused:
    """CONNACK with one of these codes, then the end [MQTT-3.2.0-1]."""

    codes: tuple

    def matches(self, seen):
        return seen.closed and len(seen.frames) == 1 and seen.last_of(CONNACK) in self.codes


@dataclasses.dataclass(frozen=True)
class Alive:
    """The connection goes on; with `kind`, after an answer of that kind that carries one of the codes."""

    kind: int | None = None
    codes: tuple = (0,)

    def matches(self, seen):
        answered = self.kind is None or seen.last_of(self.kind & 0xF0) in self.codes
        return not seen.closed and answered and seen.last_of(DISCONNECT) is None


@dataclasses.dataclass(frozen=True)
class Unseen:
    """The client is the one who left: nothing to see but that the others go on."""

    def matches(self, _seen):
        return True


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: the hostile bytes (or a script that sends them), and every outcome that the standard allows."""

    name: str
    version: int
    statement: str
    hostile: bytes | Callable[[Connection], None]
    outcomes: tuple
    opening: bytes | None = None
    slow: bool = False

    def run(self, broker, connection_class=Connection):
        try:
            seen = self._play(connection_class(broker))
        except (AssertionError, Closed) as fault:
            raise AssertionError(f"{self.name} [{self.statement}]: {fault!r}") from None
        if not any(outcome.matches(seen) for outcome in self.outcomes):
            raise AssertionError(f"{self.name} [{self.statement}]: {seen}; allowed: {self.outcomes}")

    def _play(self, opened):
        with opened as connection:
            if self.opening is not None:
                connection.open_session(self.opening)
            if callable(self.hostile):
                self.hostile(connection)
            else:
                # The PINGREQ tells a connection that lives from one that is about to end.
                connection.send(self.hostile + PINGREQ)
            return observe(connection, self.version, self._answers())

    def _answers(self):
        """The kinds of answer of which one must come if the connection lives; they may come behind the PINGRESP."""
        kinds = {outcome.kind and outcome.kind & 0xF0 for outcome in self.outcomes if isinstance(outcome, Alive)}
        return set() if None in kinds else kinds


def observe(connection, version, answers=frozenset()):
    """Reads until the end of the connection, or until a PINGRESP and one of the answers, if any, have come."""
    frames, alive = [], False
    if connection.socket.fileno() < 0:
        return Observation(version, frames, closed=True)
    try:
        while not alive or (answers and not any(frame[0] & 0xF0 in answers for frame in frames)):
            frame = connection.read_frame()
            if frame[0] == PINGRESP:
                alive = True
            else:
                frames.append(frame)
        return Observation(version, frames, closed=False)
    except Closed:
        return Observation(version, frames, closed=True)


def v311(name, statement, hostile, *outcomes, slow=False, **options):
    """A case on an open 3.1.1 session; without an outcome, the broker must close without a word."""
    return Case(name, V311, statement, hostile, outcomes or (SilentClose(),), connect(V311, **options), slow)


def v5(name, statement, hostile, *outcomes, slow=False, **options):
    """A case on an open 5.0 session; plain numbers are the DISCONNECT codes allowed."""
    return Case(name, V5, statement, hostile, resolve(outcomes, Disconnected), connect(V5, **options), slow)


def both(name, statements, build, *outcomes):
    """The same fault on an open session of either version: closed in 3.1.1, DISCONNECT with one of the codes in 5.0."""
    return (
        v311(f"{name}, 3.1.1", statements[0], build(V311)),
        v5(f"{name}, 5.0", statements[1], build(V5), *outcomes),
    )


def opening(name, version, statement, hostile, *outcomes, slow=False):
    """A case from the first byte of a connection; plain numbers are the CONNACK codes allowed."""
    return Case(name, version, statement, hostile, resolve(outcomes or (SilentClose(),), Refused), None, slow)


def openings(name, statements, build, *outcomes):
    """The same faulty CONNECT in either version: closed in 3.1.1, CONNACK with one of the codes in 5.0."""
    return (
        opening(f"{name}, 3.1.1", V311, statements[0], build(V311)),
        opening(f"{name}, 5.0", V5, statements[1], build(V5), *outcomes),
    )


def resolve(outcomes, for_codes):
    codes = tuple(outcome for outcome in outcomes if isinstance(outcome, int))
    others = tuple(outcome for outcome in outcomes if not isinstance(outcome, int))
    return ((for_codes(codes),) if codes else ()) + others
