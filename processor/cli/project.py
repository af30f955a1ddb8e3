"""The name of one project, as commands take it."""

from processor.errors import ExitCode, Stop


def require_project(name: str) -> None:
    """`Stop` (USAGE) where it cannot be the name of one: nothing would ever be found."""
    entity, _, project = name.partition("/")
    if not (entity and project):
        raise Stop(
            ExitCode.USAGE,
            f"--project {name} is no project: write the whole of its name, entity/project, for example acme/chat; "
            "there are no wildcards",
        )
