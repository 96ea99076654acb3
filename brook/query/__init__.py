"""MongoDB's query language over decoded BSON: filters, projections, orders.

Imports `brook.errors` and bson only.

`parser` reads a filter's text with `literals`, checks it, and builds `conditions`; these compile to functions
that compare the values at `paths` by the rules of `order`. For an error, `mongosh` converts
a query in a shell's syntax to JSON.
"""

from brook.query.fields import Fields
from brook.query.filter import Filter, index_keys
from brook.query.order import Key
from brook.query.sort import Sort

__all__ = ["Fields", "Filter", "Key", "Sort", "index_keys"]
