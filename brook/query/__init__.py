"""MongoDB's query language over decoded BSON: filters and projections. Imports errors and bson only."""

from brook.query.fields import Fields
from brook.query.filter import Filter, index_keys
from brook.query.order import Key

__all__ = ["Fields", "Filter", "Key", "index_keys"]
