"""A group of commands of which only the one that is named is imported."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows where its commands are."""

    def __init__(self, *arguments: Any, places: Mapping[str, str], **settings: Any) -> None:
        """Make it.

        Shape:   places, "module:attribute" by command, in the order that help shows.
        """
        super().__init__(*arguments, **settings)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, in their order."""
        del ctx
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises:  click.UsageError, there is none of this name.
        """
        place = self._places.get(cmd_name)
        if place is None:
            near = difflib.get_close_matches(cmd_name, self._places, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._places)}"
            raise click.UsageError(f"no command {cmd_name!r}; {hint}", ctx)
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command
