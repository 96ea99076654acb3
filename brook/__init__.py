"""The core: events, subscriptions and delivery. Imports neither Tornado nor MongoDB's driver.

The modules in the order in which data meets them:

    settings       the operator's choices, checked
    workers        the processes that share the port
    source         the interface of a source: it yields batches of events
    event          an event, its position in the log, a batch
    changes/       a MongoDB change, decoded and rendered as an event
    feed           the task that moves batches from the source to the subscriber list
    delivery/      the subscriber list, the history, replay, and each subscriber's queue
    sse            the wire format

A request meets these before it joins the subscriber list:

    readiness      refuses a request while the server cannot serve it
    streams        the interface that turns a path and a query into a subscription
    parameters     the query parameters of a stream of documents
    namespaces     the collections that the operator named
    query/         filters and projections
    subscription   a client's request as a value

`errors` has every exception, grouped by fault.
"""

__version__ = "0.1.0"
