"""The command line of an agent and of its owner. Mounted by the broker's, which adds what runs a bus."""

from sos.sdk.cli.admin import gateway
from sos.sdk.cli.commands import app
from sos.sdk.cli.output import JsonOption, fail, failing, show_json, text

__all__ = ["JsonOption", "app", "fail", "failing", "gateway", "show_json", "text"]
