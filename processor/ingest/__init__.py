"""The door: `POST /call/end`, answered 200 only when the broker has the record."""
