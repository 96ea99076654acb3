"""Rules: whose claims open a stream, and the subscription that they leave of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brook.access.claims import fill
from brook.access.rules import Rule, StreamRules, selection
from brook.access.streams import Policy
from brook.errors import Forbidden, InvalidFilter, InvalidParameter, Unauthenticated, UnknownStream
from brook.namespaces import Namespaces
from brook.query import Filter
from brook.subscription import Mode

EVERY_MODE = frozenset(Mode)


def rule(**parts: Any) -> Rule:
    base = {"require": {}, "filter": {}, "fields": None, "client_filter": None, "modes": EVERY_MODE}
    return Rule(**(base | parts))


def streams(claims: Any, *rules: Rule, signed: bool = False) -> Any:
    followed = Namespaces("shop", ["orders", "carts"])
    return Policy([StreamRules("mine", "shop.orders", rules)], followed, signed=signed).of(claims)


def text(query: Any) -> list[str]:
    return [json.dumps(query)]


# -- claims in a filter -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "claims", "filled"),
    [
        ({"owner": "$claims.sub"}, {"sub": "u7"}, {"owner": "u7"}),
        ({"owner": {"$ne": "$claims.org.id"}}, {"org": {"id": 5}}, {"owner": {"$ne": 5}}),
        ({"owner": "$claims.https://x.org/id"}, {"https://x.org/id": "u"}, {"owner": "u"}),
        ({"owner": {"$oid": "$claims.sub"}}, {"sub": "a" * 24}, {"owner": {"$oid": "a" * 24}}),
        ({"owner": {"$numberLong": "$claims.n"}}, {"n": 2**60}, {"owner": {"$numberLong": str(2**60)}}),
        ({"team": {"$in": "$claims.teams"}}, {"teams": ["a", 2]}, {"team": {"$in": ["a", 2]}}),
        ({"team": {"$in": "$claims.teams"}}, {"teams": "a"}, {"team": {"$in": ["a"]}}),
        ({"team": {"$in": ["$claims.sub", "all"]}}, {"sub": "u"}, {"team": {"$in": ["u", "all"]}}),
        (
            {"team": {"$in": {"$oid": "$claims.teams"}}},
            {"teams": ["a" * 24, "b" * 24]},
            {"team": {"$in": [{"$oid": "a" * 24}, {"$oid": "b" * 24}]}},
        ),
        ({"$or": [{"a": "$claims.sub"}, {"b": True}]}, {"sub": "u"}, {"$or": [{"a": "u"}, {"b": True}]}),
    ],
)
def test_claim_takes_the_place_of_its_reference(template, claims, filled):
    assert fill(template, claims) == filled


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        {"$gt": ""},
        {"$ne": 1},
        {},
        [],
        ["a"],
        [{"$gt": ""}],
        float("nan"),
        float("inf"),
        10**400,
        "x" * 1001,
    ],
)
def test_claim_that_is_no_literal_opens_nothing(value):
    with pytest.raises(Forbidden, match=r"\$claims\.sub"):
        fill({"owner": "$claims.sub"}, {"sub": value})


def test_missing_claim_opens_nothing():
    for claims in ({}, {"other": 1}, {"sub": {"deeper": 1}}):
        with pytest.raises(Forbidden):
            fill({"owner": "$claims.sub.name"}, claims)


@pytest.mark.parametrize(
    "value", [None, [], [None], [[1]], [{"$gt": ""}], ["a"] * 101, {"$gt": ""}, ["", "a"]]
)
def test_list_under_in_has_literals_only_and_is_bounded(value):
    with pytest.raises(Forbidden):
        fill({"team": {"$in": "$claims.teams"}}, {"teams": value})


@pytest.mark.parametrize("value", ["$where", "$ne", "$claims.other", "/x/", '{"$gt":""}', "\0", 'a"}'])
def test_text_of_a_claim_is_only_ever_equal_to_itself(value):
    granted = rule(filter={"owner": "$claims.sub"}).grant("shop.orders", {"sub": value})
    assert granted.reach is not None
    assert granted.reach.matches({"owner": value})
    assert not granted.reach.matches({"owner": "else", "x": "x"})


def test_claim_that_does_not_fit_its_cast_is_forbidden():
    with pytest.raises(Forbidden, match="does not fit"):
        rule(filter={"owner": {"$oid": "$claims.sub"}}).grant("shop.orders", {"sub": "no ObjectId"})


# -- who is let in ----------------------------------------------------------------------------------


def test_required_claims_must_hold():
    one = rule(require={"role": "customer", "org.plan": ["pro", "team"]})
    assert one.accepts({"role": "customer", "org": {"plan": "team"}})
    assert one.accepts({"role": ["admin", "customer"], "org": {"plan": "pro"}})
    for claims in ({}, {"role": "customer"}, {"role": "customer", "org": {"plan": "free"}}, {"role": None}):
        assert not one.accepts(claims)
    assert not rule(require={"admin": True}).accepts({"admin": 1})
    assert not rule(require={"level": 1}).accepts({"level": True})


def test_first_rule_that_accepts_is_used():
    admin = rule(require={"role": "admin"})
    own = rule(filter={"owner": "$claims.sub"})
    assert streams({"role": "admin"}, admin, own).subscription("mine", {}).filter is None
    mine = streams({"sub": "u7"}, admin, own).subscription("mine", {})
    assert mine.filter == mine.rule == Filter.parse('{"owner":"u7"}')


def test_client_without_a_token_is_let_in_by_a_public_rule_only():
    with pytest.raises(Unauthenticated):
        streams(None, rule()).subscription("mine", {})
    assert streams(None, rule(public=True)).subscription("mine", {}).namespaces == {"shop.orders"}
    with pytest.raises(Forbidden):
        streams({}, rule(require={"role": "x"})).subscription("mine", {})


def test_streams_that_are_not_configured_do_not_exist():
    granted = streams({"sub": "u"}, rule())
    for name in ("orders", "shop.orders", "carts", None):
        with pytest.raises(UnknownStream, match="there are: mine"):
            granted.subscription(name, {})
    with pytest.raises(InvalidParameter):
        granted.subscription("mine", {"ns": ["carts"]})


def test_catalog_lists_what_the_claims_open():
    (info,) = streams({"role": "x"}, rule(require={"role": "x"}, client_filter=["status"])).catalog()
    assert (info.name, info.collection, info.fields) == ("mine", "shop.orders", ["status"])
    assert streams({"role": "y"}, rule(require={"role": "x"})).catalog() == []


# -- what is left of a request ----------------------------------------------------------------------


def test_filter_of_the_rule_cannot_be_undone():
    own = rule(filter={"owner": "$claims.sub"})
    asked = {"$or": [{"owner": "u8"}, {"status": "open"}]}
    wanted = streams({"sub": "u7"}, own).subscription("mine", {"filter": text(asked)})
    assert wanted.selects({"owner": "u7", "status": "open"})
    assert not wanted.selects({"owner": "u8", "status": "open"})
    assert wanted.filter is not None
    assert set(wanted.filter.equalities) == {"owner"}


def test_fields_of_the_rule_are_the_most_that_is_shown():
    own = rule(fields=["status", "total", "place.town"])
    document = {"_id": 1, "status": "open", "total": 5, "card": "x", "place": {"town": "a", "street": "b"}}
    shown = {
        "": {"_id": 1, "status": "open", "total": 5, "place": {"town": "a"}},
        "status,card": {"_id": 1, "status": "open"},
        "-total": {"_id": 1, "status": "open", "place": {"town": "a"}},
        "place": {"_id": 1, "place": {"town": "a"}},
        "card": {"_id": 1},
    }
    for asked, part in shown.items():
        wanted = streams({}, own).subscription("mine", {"fields": [asked]} if asked else {})
        assert wanted.fields is not None
        assert wanted.fields.of(document) == part
    assert selection([]).of(document) == {"_id": 1}


@pytest.mark.parametrize(
    "path", ["card", "card.number", "place", "place.street", "place.0.street", "$and", "_idx", "statusx"]
)
def test_field_that_is_not_shown_cannot_be_asked_about(path):
    own = rule(fields=["status", "place.town"])
    query = {"$and": [{"card": 1}]} if path == "$and" else {path: 1}
    with pytest.raises(InvalidFilter, match="may not use the field"):
        streams({}, own).subscription("mine", {"filter": text(query)})
    if not path.startswith("$"):
        with pytest.raises(InvalidFilter, match="sort may not use"):
            streams({}, own).subscription("mine", {"mode": ["live"], "sort": text({path: 1})})


@pytest.mark.parametrize("path", ["card", "card.number", "a", "a.b", "a.0.b", "a.b.c"])
def test_field_that_is_excluded_cannot_be_asked_about(path):
    own = rule(fields=["-card", "-a.b"])
    with pytest.raises(InvalidFilter):
        streams({}, own).subscription("mine", {"filter": text({path: 1})})
    streams({}, own).subscription("mine", {"filter": text({"b": 1, "a.c": 1})})


@pytest.mark.parametrize(
    "query",
    [
        {"card": {"$elemMatch": {"n": 1}}},
        {"status": 1, "$nor": [{"card": {"$exists": True}}]},
        {"card": {"$not": {"$gt": 1}}},
        {"lines": {"$elemMatch": {"price": 1}}},
    ],
)
def test_no_operator_hides_a_field_from_the_check(query):
    own = rule(client_filter=["status", "lines.count"])
    with pytest.raises(InvalidFilter):
        streams({}, own).subscription("mine", {"filter": text(query)})


def test_client_filter_lists_what_may_be_asked():
    own = rule(fields=["status"], client_filter=["status", "kind"])
    for path in ("status", "kind", "kind.sub", "_id"):
        streams({}, own).subscription("mine", {"filter": text({path: 1})})
    with pytest.raises(InvalidFilter, match="it takes: _id, status, kind"):
        streams({}, own).subscription("mine", {"filter": text({"total": 1})})


def test_field_that_is_left_out_of_a_listed_one_may_not_be_asked():
    left_out = rule(fields=["-place.street", "-card"], client_filter=["place", "card"])
    shown = rule(fields=["place.city", "place.streets"], client_filter=["place", "card"])
    for own in (left_out, shown):
        for path in ("place.city", "place.streets", "card", "card.n"):
            streams({}, own).subscription("mine", {"filter": text({path: 1})})
        for path in ("place.street", "place.street.name", "place"):
            with pytest.raises(InvalidFilter):
                streams({}, own).subscription("mine", {"filter": text({path: 1})})


def test_mode_that_is_not_granted_is_forbidden():
    own = rule(modes=frozenset({Mode.LIVE}))
    with pytest.raises(Forbidden, match="it has live"):
        streams({}, own).subscription("mine", {})
    assert streams({}, own).subscription("mine", {"mode": ["live"]}).mode is Mode.LIVE


# -- signed streams ---------------------------------------------------------------------------------


def signed_claims(**stream: Any) -> dict[str, Any]:
    return {"brook": {"streams": {"inbox": {"namespace": "shop.carts"} | stream}}}


def test_token_brings_its_stream():
    claims = signed_claims(filter={"owner": "u7"}, fields=["total"])
    wanted = streams(claims, rule(), signed=True).subscription("inbox", {})
    assert wanted.namespaces == {"shop.carts"}
    assert wanted.rule == Filter.parse('{"owner":"u7"}')
    assert wanted.fields == selection(["total"])


def test_token_brings_nothing_unless_that_is_switched_on():
    with pytest.raises(UnknownStream):
        streams(signed_claims(), rule()).subscription("inbox", {})


def test_configured_stream_goes_before_one_of_the_same_name():
    claims = {"brook": {"streams": {"mine": {"namespace": "shop.carts"}}}}
    assert streams(claims, rule(), signed=True).subscription("mine", {}).namespaces == {"shop.orders"}


def test_signed_filter_may_ask_for_a_field_that_is_missing_zero_or_false():
    claims = signed_claims(filter={"gone": {"$exists": False}, "n": 0, "done": False})
    wanted = streams(claims, rule(), signed=True).subscription("inbox", {})
    assert wanted.selects({"n": 0, "done": False})
    assert not wanted.selects({"gone": 1, "n": 0, "done": False})


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize(
    "operator", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$all", "$not", "$elemMatch"]
)
def test_signed_filter_without_a_value_opens_nothing_under_any_operator(operator, empty):
    operands: Any = {"$in": [empty], "$nin": ["x", empty], "$all": [empty], "$not": {"$eq": empty}}
    operand = operands.get(operator, {"$ne": empty} if operator == "$elemMatch" else empty)
    claims = signed_claims(filter={"$nor": [{"owner": {operator: operand}}]})
    with pytest.raises(Forbidden, match="null or an empty text"):
        streams(claims, rule(), signed=True).subscription("inbox", {})


@pytest.mark.parametrize(
    "claims",
    [
        {"brook": {"streams": []}},
        {"brook": {"streams": {"inbox": 5}}},
        {"brook": {"streams": {"inbox": {"namespace": "other.coll"}}}},
        {"brook": {"streams": {"inbox": {"namespace": "shop.*"}}}},
        {"brook": {"streams": {str(n): {"namespace": "shop.carts"} for n in range(33)}}},
        signed_claims(filter=[]),
        signed_claims(fields="total"),
        signed_claims(fields=[5]),
        signed_claims(fields=["$x"]),
        signed_claims(filter={"a": {"$where": "1"}}),
        signed_claims(filter={"a": "$claims.none"}),
        signed_claims(filter={"a": None}),
        signed_claims(filter={"a": ""}),
        signed_claims(filter={"$or": [{"a": 1}, {"b": {"$in": ["x", None]}}]}),
        signed_claims(filter={"a": {"$elemMatch": {"$eq": ""}}}),
        signed_claims(more=1),
    ],
)
def test_signed_stream_that_cannot_be_opens_nothing(claims):
    with pytest.raises(Forbidden):
        streams(claims, rule(), signed=True).subscription("inbox", {})
