"""The faults of a run, in their order: all of it follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MONGO, SERVERS, CLIENTS = "mongo", "servers", "clients"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its lane, how often it is in a deck, and for how long it lasts."""

    lane: str
    often: int
    shortest: float
    longest: float


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `which` picks its target, as a share of the candidates; `pause` comes before it."""

    kind: str
    seconds: float
    which: float
    pause: float

    def __str__(self) -> str:
        return f"{self.kind} for {self.seconds:.1f} s"


# The lanes run side by side; in each, a fault is healed before the next one comes. MongoDB's lane hurts
# one node at a time but for the outage, which lasts for longer than the driver's own patience of 5 s.
KINDS: Mapping[str, Kind] = {
    "kill the primary": Kind(MONGO, 3, 0.5, 3),
    "kill a secondary": Kind(MONGO, 2, 0.5, 3),
    "freeze the primary": Kind(MONGO, 2, 1, 5),
    "freeze a secondary": Kind(MONGO, 1, 1, 5),
    "step down": Kind(MONGO, 3, 0.5, 1),
    "roll back the primary": Kind(MONGO, 2, 4, 6),
    "cut two nodes apart": Kind(MONGO, 2, 1, 5),
    "swallow between two nodes": Kind(MONGO, 2, 1, 5),
    "slow two nodes": Kind(MONGO, 1, 2, 5),
    "lose between two nodes": Kind(MONGO, 1, 2, 5),
    "kill the majority": Kind(MONGO, 1, 12, 16),
    "fill a node's disk": Kind(MONGO, 1, 3, 6),
    "roll the log over": Kind(MONGO, 1, 0, 0),
    "kill a server": Kind(SERVERS, 4, 0.2, 2),
    "stop a server": Kind(SERVERS, 3, 0.2, 1),
    "freeze a server": Kind(SERVERS, 3, 0.5, 5),
    "cut a server off a node": Kind(SERVERS, 3, 0.5, 4),
    "cut a server off MongoDB": Kind(SERVERS, 2, 1, 4),
    "cut a server off for long": Kind(SERVERS, 1, 12, 16),
    "swallow between server and node": Kind(SERVERS, 2, 1, 5),
    "swallow for long": Kind(SERVERS, 1, 12, 16),
    "slow a server's MongoDB": Kind(SERVERS, 2, 2, 5),
    "lose between server and MongoDB": Kind(SERVERS, 2, 2, 5),
    "use up a server's files": Kind(SERVERS, 2, 1, 3),
    "cut clients": Kind(CLIENTS, 5, 0, 0),
    "keep clients away": Kind(CLIENTS, 3, 2, 15),
    "stop clients from reading": Kind(CLIENTS, 2, 2, 6),
    "cut clients off a server": Kind(CLIENTS, 2, 0.5, 3),
    "swallow before a server": Kind(CLIENTS, 2, 1, 4),
    "slow a server's clients": Kind(CLIENTS, 2, 2, 5),
    "lose before a server": Kind(CLIENTS, 2, 2, 5),
}
PAUSE_SECONDS = (0.3, 2.0)


def deck(lane: str) -> list[str]:
    return [name for name, kind in KINDS.items() if kind.lane == lane for _ in range(kind.often)]


def schedule(seed: int, lane: str) -> Iterator[Fault]:
    """The faults of one lane, for ever. They are dealt from shuffled decks, so that no kind stays away."""
    chance = random.Random(f"{seed} {lane}")
    while True:
        names = deck(lane)
        chance.shuffle(names)
        for name in names:
            kind = KINDS[name]
            yield Fault(
                name,
                round(chance.uniform(kind.shortest, kind.longest), 2),
                chance.random(),
                round(chance.uniform(*PAUSE_SECONDS), 2),
            )
