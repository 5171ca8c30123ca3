"""The local cloud: AWS control planes, and ElastiCache on real Redis and Valkey servers."""
