"""What travels, and the positions at which it is found again."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brook.changes import resume_token
from brook.errors import InvalidId
from brook.event import Event, Position, Reset, ResetReason
from brook.subscription import Subscription
from tests.support.raw_client import Parser

UINT32 = st.integers(0, 2**32 - 1)
# The last time of all names no position, and nothing comes after the one before it.
TIMES = st.tuples(UINT32, UINT32).filter(lambda time: time < (2**32 - 1, 2**32 - 2))
# A token: the time, and a tail of whole bytes that says which event of that time it is.
TAILS = st.binary(min_size=1, max_size=40).map(lambda tail: tail.hex().upper())

TOKEN = (
    "826B0285BB000000012B022C0100296E5A1004C8E2F4B8D7B74E5E8A7F3C2B1D0E9F8A"
    "46645F696400645BFEF740419AEED958BBFA1B0004"
)


def token(time: tuple[int, int], tail: str) -> str:
    return f"82{time[0]:08X}{time[1]:08X}{tail}"


# -- events ----------------------------------------------------------------------------------------


def test_event_renders_its_id_name_and_data():
    event = Event("demo-1", "Sending 1", "greeting")
    assert event.frame(Subscription()) == b"id: demo-1\nevent: greeting\ndata: Sending 1\n\n"
    assert event.key == "demo-1"


def test_event_with_a_line_end_in_its_id_never_reaches_the_wire():
    with pytest.raises(ValueError, match="id must not contain"):
        Event("1\ndata: injected", "x").frame(Subscription())


def test_size_of_an_event_grows_with_what_it_holds():
    assert Event("1", "x" * 1000).size >= Event("1", "").size + 1000


@pytest.mark.parametrize("reason", ResetReason)
def test_reset_says_why_in_a_word_of_the_protocol(reason):
    wire = Reset(reason, id="t7.1").frame(Subscription()).decode()
    assert wire.splitlines() == [
        "id", "event: reset", f'data: {{"reason":"{reason.value}"}}', "", "id: t7.1", ""
    ]  # fmt: skip


def test_reset_without_a_known_position_only_clears_the_id():
    assert Reset(ResetReason.INVALID_ID).frame(Subscription()) == (
        b'id\nevent: reset\ndata: {"reason":"invalid-id"}\n\n'
    )


@settings(deadline=None)
@given(since=st.text(st.characters(exclude_categories=("Cs",))))
def test_reset_repeats_whatever_a_client_sent_without_letting_it_inject_anything(since):
    parser = Parser()
    [event] = parser.feed(Reset(ResetReason.INVALID_ID, id="t7.1", since=since).frame(Subscription()))
    assert (event.event, event.id) == ("reset", "")
    assert json.loads(event.data) == {"reason": "invalid-id", "since": since}
    assert parser.last_id == "t7.1"


# -- positions -------------------------------------------------------------------------------------


def test_positions_are_ordered_by_key_alone():
    assert Position("a", "z") < Position("b", "a", exact=False)
    assert Position("a", "a") == Position("a", "another spelling", exact=False)


def test_id_names_one_event_and_a_checkpoint_a_moment():
    id = resume_token.event_id(TOKEN)
    assert re.fullmatch("t1795327419[.]1-[0-9a-f]{16}", id)
    event = resume_token.position(id)
    assert (event.key, event.id, event.exact) == ("6B0285BB00000001", id, True)
    moment = resume_token.position("t1795327419.1")
    assert (moment.key, moment.id, moment.exact) == ("6B0285BB00000001~", "t1795327419.1", False)
    key = resume_token.event_key(TOKEN, 7)
    assert event.key < key < event.until == moment.key


def test_resume_token_is_accepted_as_the_id_of_its_event():
    id = resume_token.event_id(TOKEN)
    assert resume_token.position(TOKEN).id == resume_token.position(id).id == id


def test_id_holds_no_document_id_and_tells_tokens_of_one_time_apart():
    tokens = [token((7, 1), f"2B022C0100296E5A10{number:04X}04") for number in range(1000)]
    ids = {resume_token.event_id(each) for each in tokens}
    assert len(ids) == 1000
    assert max(map(len, ids)) == len("t7.1-") + 16


@pytest.mark.parametrize(
    "id",
    [
        "", " ", "now", "demo-2", "t", "t1", "t1.", "t.1", "t1.2.3", "t-1.2", "t1.-2", "T1.2", " t1.2",
        "t1.2 ", "t1.2\n", "t4294967296.0", "t0.4294967296", "t99999999999.1", "t1e3.2", "t0x1.2",
        "t4294967295.4294967295",
        "t\u0661.\u0662", "t\uff11.\uff12", TOKEN + "\n", TOKEN + "0", TOKEN.lower(), TOKEN[2:], "82",
        TOKEN[:18], TOKEN[:17], "t1.2-", "t1.2-0123456789abcde", "t1.2-0123456789abcdeF",
        "t1.2-0123456789abcdef0", "t4294967296.0-0123456789abcdef", "-0123456789abcdef",
        "83" + TOKEN[2:], TOKEN[:20] + "G" + TOKEN[21:], TOKEN + "~", " " + TOKEN, '{"_data":"82"}', "\0",
    ],
    ids=repr,
)  # fmt: skip
def test_garbage_is_no_id(id):
    with pytest.raises(InvalidId, match="an event id is t<seconds>"):
        resume_token.position(id)


@settings(deadline=None)
@given(id=st.text(alphabet="t0123456789.ABCDEF82~ \n-", max_size=60) | st.text(max_size=30))
def test_any_text_is_either_a_position_or_no_id(id):
    try:
        position = resume_token.position(id)
    except InvalidId:
        return
    assert resume_token.position(position.id) == position
    assert resume_token.cluster_time(position.key) <= (2**32 - 1, 2**32 - 1)


@settings(deadline=None)
@given(time=TIMES, tail=TAILS)
def test_cluster_time_is_read_back_from_token_and_checkpoint(time, tail):
    assert resume_token.cluster_time(resume_token.position(token(time, tail)).key) == time
    checkpoint = resume_token.checkpoint(time)
    assert resume_token.cluster_time(checkpoint.key) == time
    assert resume_token.position(checkpoint.id) == checkpoint
    assert checkpoint.id == f"t{time[0]}.{time[1]}"


@settings(deadline=None)
@given(first=st.tuples(TIMES, TAILS), second=st.tuples(TIMES, TAILS))
def test_positions_sort_by_their_time(first, second):
    one, other = (resume_token.position(token(*each)) for each in (first, second))
    assert (one < other) == (first[0] < second[0])
    assert (one > other) == (first[0] > second[0])


@settings(deadline=None)
@given(time=TIMES, tail=TAILS, later=TIMES)
def test_checkpoint_is_after_every_event_of_its_time_and_before_all_of_the_next(time, tail, later):
    checkpoint = resume_token.checkpoint(time)
    assert resume_token.position(token(time, tail)) < checkpoint
    after = resume_token.just_after(time)
    assert checkpoint < resume_token.position(token(after, tail))
    if later > time:
        assert checkpoint < resume_token.position(token(later, tail))
        assert checkpoint < resume_token.checkpoint(later)


@settings(deadline=None)
@given(time=TIMES)
def test_just_before_and_just_after_are_neighbours(time):
    if time > (0, 0):
        assert resume_token.just_before(time) < time
        assert resume_token.just_after(resume_token.just_before(time)) == time
    if time < (2**32 - 1, 2**32 - 1):
        assert resume_token.just_after(time) > time


@pytest.mark.parametrize(
    ("time", "after"), [((7, 0), (7, 1)), ((7, 2**32 - 1), (8, 0)), ((0, 0), (0, 1))]
)  # fmt: skip
def test_time_carries_over_to_the_next_second(time, after):
    assert resume_token.just_after(time) == after
    assert resume_token.just_before(after) == time
