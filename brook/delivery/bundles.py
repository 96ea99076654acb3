"""The frames of one batch for each bundle. A part is rendered once for all bundles that have it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from brook.delivery.groups import Group
from brook.delivery.live import Update
from brook.event import DecodedEvent
from brook.subscription import Subscription

# Bound on the rendered parts that are kept for the next bundles. Beyond it, each bundle renders its own.
KEPT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BundleFrames:
    """The frames of one batch for the clients of one bundle."""

    group: Group
    frames: list[bytes]
    broken: Sequence[Subscription]
    """The subscriptions of the result sets of which the clients need a new snapshot."""


class Gathering:
    """Gathers the changes and the updates of a batch by bundle."""

    def __init__(self) -> None:
        self._bundles: dict[Group, dict[Group, Sequence[DecodedEvent] | Update]] = {}
        self._rendered: dict[Group, list[bytes]] = {}
        self._kept_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._bundles)

    def add(self, part: Group, brought: Sequence[DecodedEvent] | Update) -> None:
        """Add a part of a batch for a part of bundles: changes that may concern it, or an update."""
        for bundle in part.bundles:
            self._bundles.setdefault(bundle, {})[part] = brought

    def by_bundle(self) -> Iterator[BundleFrames]:
        """The frames of one bundle after the other: of all together they can be many times the batch."""
        for bundle, parts in self._bundles.items():
            frames: list[bytes] = []
            broken = []
            for part, brought in parts.items():
                rendered = self._render(part, brought)
                frames += rendered
                if not isinstance(brought, Sequence) and not rendered:
                    broken.append(brought.subscription)
            if frames or broken:
                yield BundleFrames(bundle, frames, broken)

    def _render(self, part: Group, brought: Sequence[DecodedEvent] | Update) -> list[bytes]:
        if not isinstance(brought, Sequence):
            frame = brought.frame(part.tag)
            return [frame] if frame else []
        frames = self._rendered.get(part)
        if frames is None:
            frames = part.view.frames(brought)
            size = sum(map(len, frames))
            if len(part.bundles) > 1 and self._kept_bytes + size <= KEPT_BYTES:
                self._rendered[part] = frames
                self._kept_bytes += size
        return frames
