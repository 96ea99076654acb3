"""The wire format: by tables, and by parsers that know nothing of this project."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import httpx_sse
import pytest
import sseclient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brook import sse
from brook.event import Reset, ResetReason
from brook.subscription import Subscription
from tests.support.frames import BLOCKS, FORBIDDEN, FRAMES, LINE_ENDS
from tests.support.raw_client import Parser

Heard = list[tuple[str, str, str]]
"""Event names, data and ids, as a reader was told."""

# Everything that UTF-8 can carry: a lone surrogate is no character.
texts = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("\r\n\0: \u2028\ufeff"))
field_values = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"))


def whole(wire: bytes) -> Iterator[bytes]:
    yield wire


def byte_by_byte(wire: bytes) -> Iterator[bytes]:
    return (wire[index : index + 1] for index in range(len(wire)))


def by_our_parser(pieces: Iterator[bytes]) -> Heard:
    parser = Parser()
    return [(event.event, event.data, event.id) for piece in pieces for event in parser.feed(piece)]


def by_sseclient(pieces: Iterator[bytes]) -> Heard:
    return [(event.event, event.data, event.id or "") for event in sseclient.SSEClient(pieces).events()]


def by_httpx_sse(pieces: Iterator[bytes]) -> Heard:
    headers = {"Content-Type": "text/event-stream"}
    events = httpx_sse.EventSource(httpx.Response(200, headers=headers, content=pieces)).iter_sse()
    return [(event.event, event.data, event.id) for event in events]


each_cut = pytest.mark.parametrize("cut", [whole, byte_by_byte])
each_parser = pytest.mark.parametrize("read", [by_our_parser, by_sseclient, by_httpx_sse])
each_frame = pytest.mark.parametrize("row", FRAMES, ids=lambda row: row.title)


@each_frame
def test_frame_is_exactly_these_bytes(row):
    assert sse.frame(row.data, event=row.event, id=row.id) == row.wire


@each_frame
@each_cut
@each_parser
def test_frame_is_read_as_it_was_meant(row, cut, read):
    assert read(cut(row.wire)) == [row.received]


@each_cut
@each_parser
def test_frames_in_a_row_stay_apart(cut, read):
    # The two readers disagree about whether an event without an id repeats the id before it.
    named = [row for row in FRAMES if row.id]
    assert read(cut(b"".join(row.wire for row in named))) == [row.received for row in named]


@pytest.mark.parametrize("called", BLOCKS, ids=lambda called: called[0])
@each_cut
def test_block_without_data_fires_nothing_but_does_its_work(called, cut):
    name, arguments = called
    row = BLOCKS[called]
    made = getattr(sse, name)
    assert (made(*arguments) if arguments else made) == row.wire
    parser = Parser(last_id="before")
    assert [event for piece in cut(row.wire) for event in parser.feed(piece)] == []
    assert (parser.last_id, parser.retry, parser.comments) == (row.last_id, row.retry, row.comments)
    assert by_sseclient(cut(row.wire)) == []


@each_cut
def test_reset_clears_the_id_in_the_event_itself_and_sets_the_new_one_after_it(cut):
    reset = Reset(ResetReason.HISTORY_LOST, id="t7.1", since="8269")
    wire = reset.frame(Subscription())
    assert wire == b'id\nevent: reset\ndata: {"reason":"history-lost","since":"8269"}\n\nid: t7.1\n\n'
    parser = Parser(last_id="8269")
    events = [event for piece in cut(wire) for event in parser.feed(piece)]
    assert [(event.event, event.data, event.id) for event in events] == [
        ("reset", '{"reason":"history-lost","since":"8269"}', "")
    ]
    assert parser.last_id == "t7.1"
    assert by_sseclient(cut(wire)) == [("reset", '{"reason":"history-lost","since":"8269"}', "")]


@pytest.mark.parametrize("value", FORBIDDEN, ids=repr)
def test_line_end_or_nul_in_a_field_raises_instead_of_injecting(value):
    with pytest.raises(ValueError, match="id must not contain CR, LF or NUL"):
        sse.frame("x", id=value)
    with pytest.raises(ValueError, match="event must not contain CR, LF or NUL"):
        sse.frame("x", event=value)
    with pytest.raises(ValueError, match="id must not contain CR, LF or NUL"):
        sse.checkpoint(value)


def test_negative_retry_raises_as_a_reader_would_ignore_it():
    with pytest.raises(ValueError, match="must not be negative"):
        sse.retry(-1)


@pytest.mark.parametrize("end", LINE_ENDS, ids=repr)
@pytest.mark.parametrize("read", [by_sseclient, by_httpx_sse])
def test_the_judges_know_every_line_end_so_that_a_stray_one_would_be_noticed(end, read):
    wire = b"id: 1\ndata: a\ndata: b\n\n".replace(b"\n", end.encode())
    assert read(whole(wire)) == [("message", "a\nb", "1")]


def test_the_judges_would_notice_a_carriage_return_in_data():
    wire = b"data: a\revent: injected\ndata: b\n\n"
    assert by_sseclient(whole(wire)) == by_httpx_sse(byte_by_byte(wire)) == [("injected", "a\nb", "")]


@settings(deadline=None)
@given(data=texts, event=field_values, id=field_values)
@example(data="\r\n\r", event="", id="")
@example(data="", event="", id="0")
def test_any_text_survives(data, event, id):
    wire = sse.frame(data, event=event, id=id)
    heard = (event or "message", re.sub("\r\n|\r", "\n", data), id)
    assert by_our_parser(byte_by_byte(wire)) == [heard]
    assert by_httpx_sse(whole(wire)) == [heard]
    # sseclient-py takes a line of nothing but white space for an empty one: not the standard's word.
    if all(line.strip() for line in wire.decode().split("\n")[:-2]):
        assert by_sseclient(byte_by_byte(wire)) == [heard]
    assert wire.endswith(b"\n\n")
    assert wire.count(b"\n\n") == 1
    assert b"\r" not in wire
