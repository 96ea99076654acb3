"""The question for a collection, when the operator's URI names a database alone."""

from __future__ import annotations

from pymongo.errors import OperationFailure, PyMongoError

from brook.errors import OperatorError
from brook.namespaces import Namespaces
from sources.mongo import collections, errors
from sources.mongo.client import connect


async def question(uri: str, database: str) -> OperatorError:
    """Return the error that asks for a collection of the database, and lists the existing ones.

    If MongoDB cannot be asked, return the error with which the start would fail.
    """
    try:
        client = connect(uri)
    except OperatorError as error:
        return error
    try:
        existing = await collections.names(client, database)
        databases = [] if existing else await collections.databases(client, database)
    except OperationFailure as error:
        if error.code != errors.UNAUTHORIZED:
            return errors.operator_error(error, client, Namespaces(database, ()))
        existing, databases = [], []
    except PyMongoError as error:
        return errors.operator_error(error, client, Namespaces(database, ()))
    finally:
        client.close()
    return OperatorError(_question(database, existing, databases))


def _question(database: str, existing: list[str], databases: list[str]) -> str:
    question = f"the URI names the database {database}, and no collection"
    if existing:
        return (
            f"{question}: add --collection with one of {collections.listed(existing)}; "
            "--collection '*' follows all of them"
        )
    if databases:
        return (
            f"{question}: the database has none; there are the databases {collections.listed(databases)}. "
            "A collection that is made later can be named now: --collection NAME"
        )
    return f"{question}: add --collection NAME, which may be made later; --collection '*' follows all"
