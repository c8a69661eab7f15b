"""Keeps what people sent out of the log: a refused request is logged by field and rule, never by value."""

import logging

from pydantic import ValidationError

_LOGGER = "bentoml._internal.server.http_app"  # logs a refused request with the traceback, which quotes the input


class WithoutInput(logging.Filter):
    """Replaces the traceback of a validation error by the fields and rules that it is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without what was sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ValidationError):
            broken = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['type']}" for e in error.errors()]
            record.msg, record.args = "request refused: %s", (", ".join(broken),)
            record.exc_info = record.exc_text = None
        return True


def hide_input() -> None:
    """Put the filter on BentoML's logger; twice does no harm."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(one, WithoutInput) for one in logger.filters):
        logger.addFilter(WithoutInput())
