"""A receiving agent as a process: writes a line for each message it handles. Usage: receiver.py URL NAME FILE, the
token in SOS_TOKEN."""

import os
import sys
from pathlib import Path

from sos.sdk import Agent, Message


def main(url: str, name: str, path: str) -> None:
    """Handle until killed."""
    out = os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    agent = Agent(name=name, url=url)

    @agent.on_message
    async def handle(message: Message) -> None:
        os.write(out, f"{message.sender} {message.text}\n".encode())

    agent.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
