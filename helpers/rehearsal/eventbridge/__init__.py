"""EventBridge of the local cloud as AWS does it: events that arrive or are seen to fail, and requests that AWS refuses."""
