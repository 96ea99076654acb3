"""MongoDB as a source: the only package that imports the driver, apart from `sources.sandbox`."""

from sources.mongo.source import MongoSource

__all__ = ["MongoSource"]
