"""The only place with SQL and blobs. Queries are functions per noun that take an open transaction first."""
