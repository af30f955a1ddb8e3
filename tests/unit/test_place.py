"""What is shown of a connection string: where it leads, and never a secret, however it was mistyped."""

import pytest

from processor.sinks.postgres.place import place, without_password


@pytest.mark.parametrize(
    ("dsn", "shown", "where"),
    [
        ("postgresql://calls@db.example/calls", "postgresql://calls@db.example/calls", " at db.example:5432"),
        ("host=a,b port=1,2", "host=a,b port=1,2", " at a:1, b:2"),
        ("dbname=calls", "dbname=calls", ""),
        (
            "postgresql://u:hunter2@h:1/d?sslpassword=hunter2&sslmode=require",
            "user=u password=********** dbname=d host=h port=1 sslmode=require sslpassword=**********",
            " at h:1",
        ),
        ("host=h password=hunter2", "host=h password=**********", " at h:5432"),
        ("postgresql://u:x?hunter2@h/d", "user=u password=********** dbname=d host=h", " at h:5432"),
        # what the parser takes for a host, a port or a database is a piece of the password
        ("postgresql://u:p@hunter2@h/d", "**********", ""),
        ("postgresql://u:22/hunter2@h/d", "**********", ""),
        ("postgresql://u:hunter2/x@h/d", "**********", ""),
        ("host=h hunter2", "**********", ""),
    ],
)
def test_the_place_is_shown_and_no_secret(dsn: str, shown: str, where: str) -> None:
    assert sorted(without_password(dsn).split()) == sorted(shown.split())
    assert place(dsn) == where
