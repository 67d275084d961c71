"""Dates as tables have them, in one form: ISO 8601, which also sorts as text.

A day is ``2021-05-03``, a moment ``2021-05-03T10:00:00+00:00``, always in UTC.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

from vidvec.errors import BadRecord

_COMPACT_DAY = re.compile(r"\d{8}")  # 20210503, as video sites write it
_PLAIN_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# Seconds since 1970 stay below this until the year 5138; more are milliseconds.
_MOST_SECONDS = 1e11


def iso_date(value: Any) -> str:
    """A day or a moment in ISO 8601.

    Args:
        value: Text in ISO 8601, a day of eight digits, a ``date`` or ``datetime``, or seconds or
            milliseconds since 1970. A moment without a time zone is taken to be in UTC.

    Raises:
        BadRecord: It is none of these (``bad-record``).
    """
    try:
        return _iso(value.strip() if isinstance(value, str) else value)
    except (ValueError, OverflowError, TypeError):
        found = f"date is {value!r:.40}, expected one such as 2021-05-03 or 2021-05-03T10:00:00Z"
        raise BadRecord("bad-record", found) from None


def _iso(value: Any) -> str:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).replace(microsecond=0).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and not _COMPACT_DAY.fullmatch(value):
        if _PLAIN_DAY.fullmatch(value):
            return date.fromisoformat(value).isoformat()
        return _iso(datetime.fromisoformat(value))
    if isinstance(value, str) or (isinstance(value, int) and _COMPACT_DAY.fullmatch(str(value))):
        return datetime.strptime(str(value), "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    seconds = number / 1000 if abs(number) >= _MOST_SECONDS else number
    return _iso(datetime.fromtimestamp(seconds, UTC))
