"""JSON and TOML that people edit: parsed to an object, or a complaint that names the line and the column.

The law: what is not an object of that syntax raises `Broken`, whatever bytes it is, and nothing of the text stands in
the complaint, for the text may hold a secret.
"""

import json
import re
import tomllib
from typing import Any, Literal, cast

Syntax = Literal["json", "commented json", "toml"]

_AT = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


class Broken(Exception):
    """It does not parse. `line` and `column` count from 1; `why` is the parser's word."""

    def __init__(self, line: int, column: int, why: str) -> None:
        super().__init__(f"line {line}, column {column}: {why}")
        self.line, self.column, self.why = line, column, why


def parse(content: bytes, syntax: Syntax = "json") -> dict[str, Any]:
    """The object in `content`; `Broken` for anything else."""
    try:
        text = content.decode()
    except UnicodeDecodeError as e:
        before = content[: e.start].decode()
        raise Broken(*_end_of(before), "the byte there is not UTF-8") from None
    found = _toml(text) if syntax == "toml" else _json(_uncommented(text) if syntax == "commented json" else text)
    if not isinstance(found, dict):
        raise Broken(1, 1, "an object belongs here")
    return cast("dict[str, Any]", found)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise Broken(e.lineno, e.colno, e.msg) from None
    except (RecursionError, ValueError):  # nested or digits without end: the interpreter's own limits
        raise Broken(1, 1, "it is nested too deeply or holds a number that is too long") from None


def _toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        at = _AT.search(str(e))
        line, column = (int(at[1]), int(at[2])) if at and at[1] else _end_of(text)
        raise Broken(line, column, _without_text(_AT.sub("", str(e)).strip())) from None
    except (RecursionError, ValueError):
        raise Broken(1, 1, "it is nested too deeply or holds a number that is too long") from None


def _without_text(why: str) -> str:
    """The TOML parser quotes keys and values of the document; what is quoted is left out."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\(.*\)", "…", why)


def _end_of(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


def _uncommented(text: str) -> str:
    """The same with spaces where comments stood, so that lines and columns stay."""
    return _TOKEN.sub(lambda m: m[0] if m[0].startswith('"') else re.sub(r"[^\n]", " ", m[0]), text)
