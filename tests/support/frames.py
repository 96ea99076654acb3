"""The wire in tables: what is said, the bytes it becomes, and what a reader of the standard hears.

Both directions are tested with them: rendered, and fed to parsers that know nothing of this project.
"""

from __future__ import annotations

from dataclasses import dataclass

# What a line of a stream may end with, by the standard. This project writes LF only.
LINE_ENDS = ("\n", "\r\n", "\r")


@dataclass(frozen=True)
class Frame:
    """One event: what is given to `sse.frame`, the bytes, and the data that arrives."""

    title: str
    data: str
    wire: bytes
    event: str = ""
    id: str = ""
    heard: str | None = None

    @property
    def received(self) -> tuple[str, str, str]:
        """Event name, data and id, as a reader gets them."""
        return self.event or "message", self.data if self.heard is None else self.heard, self.id


@dataclass(frozen=True)
class Block:
    """A block that fires nothing: its bytes, and what it does to a reader that had the id `before`."""

    title: str
    wire: bytes
    last_id: str = "before"
    retry: int | None = None
    comments: int = 0


FRAMES = (
    Frame("one line", "Sending 1", b"data: Sending 1\n\n"),
    Frame("with an id", "Sending 1", b"id: demo-1\ndata: Sending 1\n\n", id="demo-1"),
    Frame("with a name", "{}", b"event: delete\ndata: {}\n\n", event="delete"),
    Frame(
        "with everything", '{"_id":1}', b'id: 82AB\nevent: delete\ndata: {"_id":1}\n\n',
        event="delete", id="82AB",
    ),
    Frame("nothing", "", b"data: \n\n"),
    Frame("two lines", "a\nb", b"data: a\ndata: b\n\n"),
    Frame("carriage return", "a\rb", b"data: a\ndata: b\n\n", heard="a\nb"),
    Frame("both", "a\r\nb", b"data: a\ndata: b\n\n", heard="a\nb"),
    Frame("both, the wrong way round", "a\n\rb", b"data: a\ndata: \ndata: b\n\n", heard="a\n\nb"),
    Frame("an empty line inside", "a\n\nb", b"data: a\ndata: \ndata: b\n\n"),
    Frame("a line end at the end", "a\n", b"data: a\ndata: \n\n"),
    Frame("a line end at the beginning", "\na", b"data: \ndata: a\n\n"),
    Frame("only a line end", "\n", b"data: \ndata: \n\n"),
    Frame("what looks like a field", "x\nid: 7\nevent: y", b"data: x\ndata: id: 7\ndata: event: y\n\n"),
    Frame("what looks like a comment", ": quiet", b"data: : quiet\n\n"),
    Frame("a space at the beginning", "  a", b"data:   a\n\n"),
    Frame("colons", "a: b:c", b"data: a: b:c\n\n"),
    Frame("NUL", "a\0b", b"data: a\0b\n\n"),
    Frame("a tab", "\ta", b"data: \ta\n\n"),
    Frame("an umlaut", "B\u00e4che", "data: B\u00e4che\n\n".encode()),
    Frame("beyond the first plane", "\U0001f41f", "data: \U0001f41f\n\n".encode()),
    Frame("Unicode's own line ends", "a\u2028b\u2029c\u0085d\x0be\x0cf",
          "data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode()),
    Frame("a byte order mark", "\ufeffa", "data: \ufeffa\n\n".encode()),
    Frame("an id with spaces", "a", b"id:  1 \ndata: a\n\n", id=" 1 "),
    Frame("an id with a colon", "a", b"id: a:b\ndata: a\n\n", id="a:b"),
    Frame("an id beyond ASCII", "a", "id: \u0662\ndata: a\n\n".encode(), id="\u0662"),
)  # fmt: skip

# By the name of the function that renders it, and its arguments.
BLOCKS = {
    ("checkpoint", ("t1795328801.7",)): Block(
        "only an id", b"id: t1795328801.7\n\n", last_id="t1795328801.7"
    ),
    ("retry", (3000,)): Block("only a retry", b"retry: 3000\n\n", retry=3000),
    ("retry", (0,)): Block("come back at once", b"retry: 0\n\n", retry=0),
    ("KEEP_ALIVE", ()): Block("a comment", b":\n\n", comments=1),
}

# What would inject a field, or make a reader ignore the id.
FORBIDDEN = ("\r", "\n", "\0", "a\nb", "a\r", "\na", "1\r\ndata: x", "1\0")
