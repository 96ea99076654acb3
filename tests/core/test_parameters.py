"""What a query means: one canonical value for equal wishes, and a clear refusal for everything else."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, quote_from_bytes, urlencode
from uuid import UUID

import pytest
from bson import Int64, ObjectId
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from brook.errors import ClientError, InvalidFilter, InvalidParameter, UnknownStream
from brook.namespaces import Namespaces
from brook.parameters import MAX_REPEATED, PARAMETERS, subscription
from brook.query import index_keys
from brook.subscription import OPERATIONS, Format, Subscription, Types
from tests.support.processes import ServerProcess

KNOWN = Namespaces("brook", ["creatures", "plants"], ["shop.*"])
CREATURE = UUID("00112233-4455-6677-8899-aabbccddeeff")
OID = "5bfef740419aeed958bbfa1b"


def meaning(query: str = "", stream: str | None = None) -> Subscription:
    """What a decoded query means; `a=1&a=2` as in a URL."""
    parameters: dict[str, list[str]] = {}
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        parameters.setdefault(name, []).append(value)
    return subscription(KNOWN, stream, parameters)


# -- what is refused -------------------------------------------------------------------------------

# The query, and what the message must say.
REFUSED = {
    "filtre={}": ["unknown parameter", "'filtre'", "filter", "since"],
    "Filter={}": ["unknown parameter", "'Filter'"],
    "=x": ["unknown parameter", "''"],
    "mode=alive": ["mode", "changes, live, count"],
    "mode=live": ["one collection", "/stream/{collection}"],
    "mode=live&ops=insert": ["ops", "mode=changes"],
    "mode=live&ns=creatures": ["ns", "mode=changes"],
    "progress=1&checkpoints=0": ["progress", "checkpoints=0"],
    "mode=count&fields=a": ["fields", "mode=count"],
    "filter={}&filter={}": ["'filter'", "2 times"],
    "fields=a&fields=b": ["'fields'", "2 times"],
    "ops=insert&ops=delete": ["'ops'", "2 times"],
    "format=plain&format=envelope": ["'format'", "2 times"],
    "types=json&types=json": ["'types'", "2 times"],
    "before=0&before=1": ["'before'", "2 times"],
    "checkpoints=0&checkpoints=0": ["'checkpoints'", "2 times"],
    "&".join(["id=1"] * (MAX_REPEATED + 1)): ["'id'", f"{MAX_REPEATED + 1} times"],
    "&".join(["ns=plants"] * (MAX_REPEATED + 1)): ["'ns'", f"{MAX_REPEATED + 1} times"],
    "ops=": ["ops", "''", "insert, update, replace, delete"],
    "ops=insert,": ["ops", "''"],
    "ops=insert,,delete": ["ops", "''"],
    "ops=upsert": ["ops", "'upsert'"],
    "ops=INSERT": ["ops", "'INSERT'"],
    "ops=insert, delete": ["ops", "' delete'"],
    "ops=drop": ["ops", "'drop'"],
    "format=": ["format", "plain, envelope", "''"],
    "format=json": ["format", "'json'"],
    "format=Envelope": ["format", "'Envelope'"],
    "types=": ["types", "json, ejson", "''"],
    "types=bson": ["types", "'bson'"],
    "before=": ["before", "0 or 1", "''"],
    "before=true": ["before", "'true'"],
    "before=2": ["before", "'2'"],
    "before=1": ["before=1", "format=envelope"],
    "before=1&format=plain": ["before=1", "format=envelope"],
    "checkpoints=": ["checkpoints", "0 or 1", "''"],
    "checkpoints=no": ["checkpoints", "'no'"],
    "checkpoints=00": ["checkpoints", "'00'"],
    "ns=plants&format=plain": ["ns", "format=envelope"],
    "fields=": ["fields", "''"],
    "fields=a,": ["fields", "''"],
    "fields=a,-b": ["fields", "not both"],
    "fields=-": ["fields", "''"],
    "fields=a..b": ["fields", "'a..b'"],
    "fields=.a": ["fields", "'.a'"],
    "fields=a.": ["fields", "'a.'"],
    "fields=$where": ["fields", "'$where'"],
    "fields=a.$b": ["fields", "'a.$b'"],
    "fields=a.$": ["fields", "'a.$'"],
    "fields=a\0b": ["fields"],
    "fields=a,a.b": ["fields", "'a'", "inside"],
    "fields=-a.b.c,-a": ["fields", "'a'", "inside"],
    "fields=-_id": ["fields", "_id"],
    "fields=-_id.part": ["fields", "_id"],
    "fields=" + ",".join(f"f{n}" for n in range(101)): ["fields", "100", "101"],
    "filter=": ["filter", "JSON"],
    "filter=[]": ["object", "filter"],
    "filter=null": ["object", "filter"],
    "filter={": ["filter", "JSON", "character 1"],
    'filter={"a":{"$where":1}}': ["$where", "filter.a"],
    'filter={"$and":[{"a":1},{"$where":1}]}': ["$where", "filter.$and[1]"],
    'filter={"a":{"$regex":"x"}}': ["$regex", "filter.a"],
    'filter={"$expr":1}': ["$expr", "filter"],
    'filter={"a":1,"a":2}': ["a", "twice"],
    'filter={"a":{"$in":5}}': ["array", "filter.a.$in"],
    'filter={"a":{"$oid":"x"}}': ["$oid", "filter.a"],
    'filter={"a":{"$binary":{}}}': ["$binary", "filter.a"],
    'filter={"a":{"$gt":{"$timestamp":{"t":1}}}}': ["$timestamp", "filter.a.$gt"],
}  # fmt: skip


@pytest.mark.parametrize("query", REFUSED, ids=lambda query: query[:40])
def test_what_is_wrong_and_where_is_said(query):
    with pytest.raises((InvalidParameter, InvalidFilter)) as raised:
        meaning(query)
    message = str(raised.value)
    assert [word for word in REFUSED[query] if word not in message] == []
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("name", [*PARAMETERS, "nonsense"])
def test_refusal_quotes_only_the_beginning_of_what_was_sent(name):
    long = "x" * 100_000
    queries = [f"{long}=1"] if name in ("id", "fields") else [f"{name}=({long}"]  # those two take any text
    for query in queries:
        with pytest.raises(ClientError) as raised:
            meaning(query)
        assert len(str(raised.value)) < 500


def test_path_and_ns_cannot_both_name_collections():
    with pytest.raises(InvalidParameter, match="ns works only with /stream"):
        meaning("ns=plants", "creatures")


@pytest.mark.parametrize(
    "name", ["rocks", "", "brook.", ".creatures", "shop.", "shop", "shop.system.users", "shop.*"]
)
def test_unknown_streams_are_unknown_by_path_and_by_ns(name):
    with pytest.raises(UnknownStream):
        meaning("", name)
    with pytest.raises(UnknownStream):
        meaning(f"ns=creatures&ns={name}")


# -- what is meant ---------------------------------------------------------------------------------


def test_nothing_asked_for_is_everything_in_plain():
    assert meaning() == Subscription()
    assert meaning("", "creatures") == Subscription(namespaces=frozenset(["brook.creatures"]))


def test_everything_at_once():
    wanted = meaning(
        'ns=plants&ns=shop.old.bills&filter={"a":1}&id=7&fields=-b&ops=insert&types=ejson&before=1&checkpoints=0'
    )
    assert wanted.namespaces == {"brook.plants", "shop.old.bills"}
    assert wanted.filter is not None
    assert wanted.filter.matches({"a": 1})
    assert not wanted.filter.matches({"a": 2})
    assert wanted.ids == index_keys({"_id": 7}, "_id") | index_keys({"_id": "7"}, "_id")
    assert wanted.fields is not None
    assert (wanted.fields.names, wanted.fields.excluding) == ({"b"}, True)
    assert wanted.operations == {"insert"}
    assert (wanted.format, wanted.types) == (Format.ENVELOPE, Types.EJSON)
    assert (wanted.before, wanted.checkpoints) == (True, False)


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("5bfef740419aeed958bbfa1b", [ObjectId(OID)]),
        ("5BFEF740419AEED958BBFA1B", [ObjectId(OID)]),
        ("123456789012345678901234", [ObjectId("123456789012345678901234")]),
        ("5bfef740419aeed958bbfa1", ["5bfef740419aeed958bbfa1"]),
        ("7", [7, "7"]),
        ("-7", [-7, "-7"]),
        ("0", [0, "0"]),
        ("007", ["007"]),
        ("+7", ["+7"]),
        ("7.0", ["7.0"]),
        ("1e3", ["1e3"]),
        (" 7", [" 7"]),
        ("7\n", ["7\n"]),
        ("\u0667", ["\u0667"]),
        ("1\u0667", ["1\u0667"]),
        ("1234567890123456789", [Int64(1234567890123456789), "1234567890123456789"]),
        (str(2**63 - 1), [Int64(2**63 - 1), str(2**63 - 1)]),
        (str(-(2**63)), [Int64(-(2**63)), str(-(2**63))]),
        (str(2**63), [str(2**63)]),
        ("9" * 5000, ["9" * 5000]),
        ("true", ["true"]),
        ("null", ["null"]),
        ("", [""]),
        ("00112233-4455-6677-8899-aabbccddeeff", ["00112233-4455-6677-8899-aabbccddeeff", CREATURE]),
        ("00112233-4455-6677-8899-AABBCCDDEEFF", ["00112233-4455-6677-8899-AABBCCDDEEFF", CREATURE]),
        ("{00112233-4455-6677-8899-aabbccddeeff}", ["{00112233-4455-6677-8899-aabbccddeeff}"]),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_id_means_what_it_may_mean_and_nothing_else(text, meanings):
    assert meaning(f"id={text}").ids == {key for id in meanings for key in index_keys({"_id": id}, "_id")}


# -- equal wishes are equal ------------------------------------------------------------------------

EQUAL = [
    ["ops=insert,delete", "ops=delete,insert", "ops=insert,delete,insert"],
    ["ops=insert,update,replace,delete", "ops=delete,replace,update,insert", ""],
    ["fields=a,b.c", "fields=b.c,a", "fields=a,b.c,a"],
    ["fields=-a,-b.c", "fields=-b.c,-a"],
    ["id=7&id=text", "id=text&id=7", "id=7&id=text&id=7"],
    [f"id={OID}", f"id={OID.upper()}"],
    ["ns=plants&ns=creatures", "ns=creatures&ns=brook.plants",
     "ns=creatures&ns=plants&ns=creatures&format=envelope"],
    ["format=plain", "", "types=json", "before=0", "checkpoints=1", "filter={}", 'filter={"$and":[{},{}]}'],
    ['filter={"a":1,"b":2}', 'filter={"b":2,"a":1}', 'filter={ "a" : 1.0 , "b":{"$eq":2}}',
     'filter={"$and":[{"a":1},{"b":{"$in":[2]}}]}', 'filter={"a":{"$numberLong":"1"},"b":{"$in":[2,2]}}'],
    ['filter={"a":{"$in":[1,2]}}', 'filter={"a":{"$in":[2,1,1.0]}}'],
    ['filter={"a":{"$gt":1,"$lt":5}}', 'filter={"a":{"$lt":5,"$gt":1}}',
     'filter={"$and":[{"a":{"$gt":1}},{"a":{"$lt":5}}]}'],
    ['filter={"$or":[{"a":1},{"b":2}]}', 'filter={"$or":[{"b":2},{"a":1},{"a":1}]}'],
    ['filter={"_id":{"$oid":"5bfef740419aeed958bbfa1b"}}',
     'filter={"_id":{"$oid":"5BFEF740419AEED958BBFA1B"}}'],
]  # fmt: skip


@pytest.mark.parametrize("queries", EQUAL, ids=lambda queries: queries[0][:40])
def test_equal_wishes_are_one_value(queries):
    wishes = [meaning(query) for query in queries]
    assert len(set(wishes)) == 1
    assert all(one == other and hash(one) == hash(other) for one, other in itertools.combinations(wishes, 2))


def test_all_collections_by_name_are_the_same_as_all():
    one, two = Namespaces("brook", ["creatures"]), Namespaces("brook", ["creatures"], ["shop.orders"])
    assert subscription(one, "creatures", {}) == subscription(one, "brook.creatures", {}) == Subscription()
    assert subscription(two, None, {"ns": ["creatures", "shop.orders"]}) == Subscription(
        format=Format.ENVELOPE
    )
    assert subscription(two, "creatures", {}) == Subscription(namespaces=frozenset(["brook.creatures"]))
    everything = Namespaces("brook", ["*"])
    assert subscription(everything, "creatures", {}).namespaces == {"brook.creatures"}


def test_different_wishes_are_different_values():
    different = [
        "", "ops=insert", "ops=delete", "fields=a", "fields=-a", "fields=a.b", "id=7", "id=8", "id=7&id=8",
        f"id={OID}", "ns=plants", "ns=creatures", "ns=plants&ns=creatures", "format=envelope", "types=ejson",
        "format=envelope&before=1", "checkpoints=0", 'filter={"a":1}', 'filter={"a":true}',
        'filter={"a":"1"}',
        'filter={"a":null}', 'filter={"b":1}', 'filter={"a":{"$ne":1}}', 'filter={"a":{"$in":[1,2]}}',
        'filter={"a":{"$all":[1,2]}}', 'filter={"a":[1,2]}', 'filter={"a":[2,1]}',
        'filter={"a":{"b":1,"c":2}}',
        'filter={"a":{"c":2,"b":1}}', 'filter={"$or":[{"a":1},{"b":1}]}', 'filter={"$nor":[{"a":1},{"b":1}]}',
        'filter={"a":{"$gt":1}}', 'filter={"a":{"$gte":1}}', 'filter={"a":0}', 'filter={"a":false}',
        'filter={"a":{"$numberDecimal":"1.1"}}', 'filter={"a":1.1}',
    ]  # fmt: skip
    assert len({meaning(query) for query in different}) == len(different)


# -- whatever is sent ------------------------------------------------------------------------------

names = (
    st.sampled_from(PARAMETERS)
    | st.text(max_size=12)
    | st.sampled_from(["since", "FILTER", "filter ", "mode", "ids", "n"])
)
good = st.sampled_from(
    ["creatures", "plants", "shop.orders", "insert", "insert,delete", "a,b", "-a", "7", OID, "plain",
     "envelope", "json", "ejson", "0", "1", '{"a":1}', '{"a":{"$in":[1,2]}}', "{}", "x"]
)  # fmt: skip
bad = st.text(max_size=30) | st.sampled_from(
    ["", "*", "shop.*", "%", "%zz", "{", '{"$where":1}', "null", "[]", "NaN", "1e999", "\0", "\ud800",
     "a" * 5000,
     '{"a":' * 200 + "1" + "}" * 200, "[" * 5000, "true", "a;ops=delete", "insert#", "-", ",", "a,-b", "_id",
     "-_id"]
)  # fmt: skip
queries = st.dictionaries(names, st.lists(good | good | bad, min_size=1, max_size=3), max_size=4)


def check_not_wider(parameters: dict[str, list[str]], wanted: Subscription) -> None:
    """Everything that was asked for is in what is meant."""
    assert set(parameters) <= set(PARAMETERS), "something was ignored"
    assert all(len(values) == 1 for name, values in parameters.items() if name not in ("ns", "id"))
    one = {name: values[0] for name, values in parameters.items()}
    if "ns" in parameters:
        assert wanted.namespaces is not None
        assert len(wanted.namespaces) == len({name.removeprefix("brook.") for name in parameters["ns"]})
        assert wanted.format is Format.ENVELOPE
    if "ops" in one:
        assert (wanted.operations or set(OPERATIONS)) == set(one["ops"].split(","))
    if "id" in parameters:
        assert wanted.ids
        assert len(wanted.ids) <= 2 * len(parameters["id"])
    if "fields" in one:
        assert wanted.fields is not None
        spelt = {("-" if wanted.fields.excluding else "") + name for name in wanted.fields.names}
        assert spelt == set(one["fields"].split(","))
    if "filter" in one:
        query = json.loads(one["filter"])
        assert isinstance(query, dict)
        assert (wanted.filter is None) == (not query)
    assert wanted.format is Format(one.get("format", "envelope" if "ns" in one else "plain"))
    assert wanted.types is Types(one.get("types", "json"))
    assert wanted.before is (one.get("before") == "1")
    assert wanted.checkpoints is (one.get("checkpoints") != "0")


@settings(deadline=None, max_examples=500)
@given(
    parameters=queries,
    stream=st.none() | st.sampled_from(["creatures", "shop.orders", "rocks"]) | st.text(max_size=10),
)
@example(parameters={"ops": ["insert"], "opps": ["delete"]}, stream=None)
@example(parameters={"filter": ["{}"]}, stream=None)
def test_whatever_is_sent_is_refused_or_means_all_that_it_says(parameters, stream):
    try:
        wanted = subscription(KNOWN, stream, parameters)
    except ClientError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 1000
    if message:
        return
    check_not_wider(parameters, wanted)
    hash(wanted)
    if stream is not None:
        assert wanted.namespaces == {
            stream if "." in stream and stream.startswith(("shop.", "brook.")) else f"brook.{stream}"
        }


# -- over HTTP -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(sandbox) -> Iterator[ServerProcess]:
    """Watches the collections of `KNOWN`."""
    server = ServerProcess(
        "--mongo",
        sandbox.uri,
        "--database=brook",
        "--collection=creatures",
        "--collection=plants",
        "--namespace=shop.*",
        "--cors-origin=",
    )
    try:
        yield server.start()
    finally:
        server.kill()


def ask(server: ServerProcess, target: bytes) -> tuple[int, bytes]:
    """The status, and the head and as much of the body as is there at once; 0 for a connection that ended."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return 0, data
            data += piece
        status = int(data.split(b" ")[1])
        while status != 200 and (piece := connection.recv(65536)):
            data += piece
        return status, data


@pytest.mark.parametrize("query", REFUSED, ids=lambda query: query[:40])
def test_refusal_is_a_problem_document_with_what_is_wrong(server, query):
    # As a program would encode it; a plus sign, for one, has another meaning in a query.
    pairs = [part.partition("=") for part in query.split("&")]
    status, data = ask(server, b"/stream?" + urlencode([(name, value) for name, _, value in pairs]).encode())
    head, _, body = data.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert (status, problem["status"], problem["type"]) == (400, 400, "about:blank")
    assert problem["code"] == (
        "invalid-filter" if query.startswith("filter=") and "&" not in query else "invalid-parameter"
    )
    assert b"application/problem+json" in head
    assert [word for word in REFUSED[query] if word not in problem["detail"]] == []


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("since=yesterday", "invalid-id", []),
        ("since=", "invalid-id", []),
        ("since=2050-01-01T00:00:00Z", "invalid-parameter", ["2050-01-01", "now"]),
        ("since=1969-12-31T23:59:59Z", "invalid-parameter", ["1969-12-31", "1970"]),
        ("since=2026-11-22T06:10:00", "invalid-parameter", ["2026-11-22T06:10:00", "time zone"]),
        ("since=2026-11-22T25:10:00Z", "invalid-parameter", ["25:10", "RFC 3339"]),
        ("since=2026-02-30T00:00:00Z", "invalid-parameter", ["02-30", "RFC 3339"]),
        ("since=2026-11-22T06:10:00ZZ", "invalid-parameter", ["RFC 3339"]),
        ("since=0001-01-01T00:00:00%2B23:59", "invalid-parameter", ["1970"]),
        ("since=9999-12-31T23:59:59-23:59", "invalid-parameter", ["now"]),
        ("since=now&since=now", "invalid-parameter", ["since", "2 times"]),
        ("ops=%FF", "invalid-parameter", ["UTF-8"]),
        ("%FF=1", "invalid-parameter", []),
        ("ns=%FF", "invalid-parameter", ["UTF-8"]),
    ],
)
def test_bad_since_and_bad_text_say_what_is_wrong(server, query, code, words):
    status, data = ask(server, b"/stream?" + query.encode())
    problem = json.loads(data.partition(b"\r\n\r\n")[2])
    assert (status, problem["code"]) == (400, code)
    assert [word for word in words if word not in problem["detail"]] == []


# Bytes that may be in a request's target at all: no spaces, no line ends.
target_bytes = st.binary(max_size=60).map(lambda data: bytes(byte for byte in data if 0x21 <= byte != 0x7F))
pairs = st.lists(st.tuples(names, good | bad), max_size=5)
encoded = pairs.map(
    lambda pairs: "&".join(
        f"{quote(n, safe='', errors='surrogatepass')}={quote(v, safe='', errors='surrogatepass')}"
        for n, v in pairs
    ).encode()
)
junk = st.lists(
    st.sampled_from([b"&", b"=", b"%", b"%%", b"%0", b"%00", b"%zz", b";", b"#", b"?", b"+", b"filter",
                     b"ops=insert",
                     b"ops", b"fields=a", b"ns=plants", b"[]", b"{}", b"%C3", b"\xc3\xa9", b"\xff",
                     b"checkpoints=0"]),
    max_size=10,
).map(b"".join)  # fmt: skip
long = st.builds(
    lambda name, value, size: name.encode() + b"=" + quote_from_bytes(value * size).encode(),
    st.sampled_from(PARAMETERS), st.binary(min_size=1, max_size=4), st.sampled_from([100, 5000, 30_000]),
)  # fmt: skip
streams = st.sampled_from(
    [b"/stream", b"/stream", b"/stream/creatures", b"/stream/shop.orders", b"/stream/rocks"]
)


@settings(
    deadline=None,
    max_examples=250,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(stream=streams, query=encoded | encoded | junk | target_bytes | long)
@example(stream=b"/stream", query=b"ops=insert#&filter={}")
@example(stream=b"/stream", query=b"ops=insert;filter=1")
@example(stream=b"/stream", query=b"ops=insert&&&")
@example(stream=b"/stream", query=b"ops=insert&%66ilter=%7B%7D")
@example(stream=b"/stream", query=b"=")
@example(stream=b"/stream", query=b"filter")
@example(stream=b"/stream", query=b"?ops=insert")
@example(stream=b"/stream", query=b"&".join([b"id=1"] * 5000))
@example(stream=b"/stream", query=b"id=" + b"1" * 100_000)
@example(stream=b"/stream", query=b"id=" + b"1" * 1_000_000)
def test_whatever_is_sent_over_http_is_answered_and_never_with_more(server, stream, query):
    status, data = ask(server, stream + b"?" + query)
    assert status in (200, 400, 404, 414, 0), data[:300]
    if status == 0:
        assert len(query) > 60_000, "the connection ended without an answer"
    if status == 200:
        # Read by another parser, which is as strict as it gets.
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
        asked: dict[str, list[str]] = {}
        for name, value in pairs:
            asked.setdefault(name, []).append(value)
        assert asked.pop("since", ["now"]) == ["now"]
        check_not_wider(asked, subscription(KNOWN, stream.decode().partition("/stream/")[2] or None, asked))
    elif query.count(b"&") < 900:  # so many are refused before anybody asks what they mean
        assert status == 0 or b"application/problem+json" in data


def test_server_is_none_the_worse_for_it(server):
    assert ask(server, b"/readyz")[0] == 200
    lines = [line for line in server.log if "there is none of this name yet" not in line]
    assert [line for line in lines if " INFO " not in line] == []
