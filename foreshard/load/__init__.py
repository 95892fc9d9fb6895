"""What shards and buckets bear: read from PostgreSQL's counters and from the operating system."""
