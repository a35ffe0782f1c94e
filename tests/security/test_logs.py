"""No secret reaches a log, not even in the text of an exception that nobody foresaw."""

import io
import logging

import pytest

from sos.broker.cli import LOG_FORMAT, RedactingFormatter
from sos.broker.doors.problems import as_refusal
from sos.wire.tokens import TokenKind, make, tail


def test_an_unforeseen_errors_text_is_logged_without_the_token_in_it_and_answered_without_any_of_it(
    caplog: pytest.LogCaptureFixture,
):
    token = make(TokenKind.AGENT)
    refusal = as_refusal(RuntimeError(f"cannot parse {token}"), "a call")
    assert token not in caplog.text
    assert tail(token) in caplog.text
    assert "RuntimeError" in caplog.text
    assert "parse" not in str(refusal)


def test_the_gateways_log_holds_no_token_in_messages_or_tracebacks():
    token, out = make(TokenKind.OPERATOR), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(RedactingFormatter(LOG_FORMAT))
    error = ValueError(f"in a traceback: {token}")
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "in a message: %s", (token,), (ValueError, error, None))
    handler.handle(record)
    assert token not in out.getvalue()
    assert "in a traceback" in out.getvalue()
    assert out.getvalue().count("sk-op-…") == 2
