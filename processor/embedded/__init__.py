"""A real Kafka and a real PostgreSQL, started as child processes: no Docker, nothing installed on the machine."""
