"""`call-processor config`: the settings of this process, secrets masked."""

import json
from typing import Annotated

import typer

from processor import config
from processor.sinks.postgres.place import without_password


def run(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show every setting with the value that is in force; the password of the database is masked."""
    settings = config.load()
    if as_json:
        typer.echo(json.dumps(_masked(settings), indent=2))
        return
    for section, fields in _masked(settings).items():
        for name, value in fields.items():
            typer.echo(f"{config.PREFIX}{section.upper()}__{name.upper()}={shown(value)}")


def shown(value: object) -> str:
    """As it may be set: `true`, and `9` also for 9.0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _masked(settings: config.Settings) -> dict[str, dict[str, object]]:
    """The connection string without its password: to see which server it leads to is what most people come for."""
    sections: dict[str, dict[str, object]] = settings.model_dump(mode="json")
    if settings.postgres.dsn is not None:
        sections["postgres"]["dsn"] = without_password(settings.postgres.dsn.get_secret_value())
    return sections
