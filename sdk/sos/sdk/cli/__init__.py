"""The command line of an agent and of its owner. Mounted by the broker's, which adds what runs a bus."""

from sos.sdk.cli.commands import app
from sos.sdk.cli.output import JsonOption, fail, show_json, text

__all__ = ["JsonOption", "app", "fail", "show_json", "text"]
