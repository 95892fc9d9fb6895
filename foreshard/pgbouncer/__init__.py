"""PgBouncer, for applications that cannot import the router: one alias a bucket, and a cutover that pauses it."""
