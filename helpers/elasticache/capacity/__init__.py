"""The capacity report of a Redis or Valkey group: weeks of metrics, the limits, the day memory is full, and the node type to take."""

from helpers.elasticache.capacity.checks import verdicts
from helpers.elasticache.capacity.review import Review, review
from helpers.elasticache.capacity.row import record
from helpers.elasticache.capacity.sizing import Sizing, size
from helpers.elasticache.capacity.source import Source, open_source

__all__ = ["Review", "Sizing", "Source", "open_source", "record", "review", "size", "verdicts"]
