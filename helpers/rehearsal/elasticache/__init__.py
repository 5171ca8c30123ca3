"""ElastiCache for the local cloud: the service's own interface over real server processes."""
