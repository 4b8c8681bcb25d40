"""Named patterns for what text says, and those that people write."""

from __future__ import annotations

import re
from functools import cache

from imgedit.errors import nearest

# Dates as cameras and people write them, with or without a time behind. Text recognition drops and adds blanks and
# mistakes one separator for another: years of four digits and month names allow for that; years of two digits are
# held to one separator. No date: part of a longer row of numbers, as in 192.168.1.10 or 0171 12 03 45.
_MONTH = (
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = r"""(?x) (?<![0-9A-Za-z_]) (?<![0-9][-.,:/]) (?:
  # 2019-08-14  2019/8/14  2019:08:14  2019 08 14  2019年8月14日
  (?:19|20)\d\d [-–—−/.,:·\s年년]{1,3} (?:1[0-2]|0?[1-9]) [-–—−/.,:·\s月월]{1,3} (?:3[01]|[12]\d|0?[1-9])
  # 20190814
| (?:19|20)\d\d (?:1[0-2]|0[1-9]) (?:3[01]|[12]\d|0[1-9])
  # 14.08.2019  8/14/2019  14 8 '19
| (?: (?:3[01]|[12]\d|0?[1-9]) [-–—−/.,·\s]{1,3} (?:1[0-2]|0?[1-9])
    | (?:1[0-2]|0?[1-9]) [-–—−/.,·\s]{1,3} (?:3[01]|[12]\d|0?[1-9]) )
  [-–—−/.,·\s]{1,3} (?: (?:19|20)\d\d | ['’‘`´] \s? \d\d )
  # '19 8 14
| ['’‘`´] \s? \d\d [-–—−/.,·\s]{1,3} (?:1[0-2]|0?[1-9]) [-–—−/.,·\s]{1,3} (?:3[01]|[12]\d|0?[1-9])
  # 14.08.19  8/14/19
| (?: (?:3[01]|[12]\d|0?[1-9]) \s? (?P<a>[-/.]) \s? (?:1[0-2]|0?[1-9])
    | (?:1[0-2]|0?[1-9]) \s? (?P<b>[-/.]) \s? (?:3[01]|[12]\d|0?[1-9]) )
  \s? (?: (?(a)(?P=a)|(?P=b)) ) \s? \d\d
  # 19-08-14
| \d\d \s? (?P<c>[-/.]) \s? (?:1[0-2]|0?[1-9]) \s? (?P=c) \s? (?:3[01]|[12]\d|0?[1-9])
  # 19 8 14  14 08 19  08 14 19: the apostrophe was not read
| (?<![0-9]\s) (?: \d\d \s{1,2} (?:1[0-2]|0?[1-9]) \s{1,2} (?:3[01]|[12]\d|0[1-9])
    | (?:3[01]|[12]\d|0[1-9]) \s (?:1[0-2]|0[1-9]) \s \d\d
    | (?:1[0-2]|0[1-9]) \s (?:3[01]|[12]\d|0[1-9]) \s \d\d ) (?!\s\d+(?![\d:.h]))
  # 14. Aug 2019  14-AUG-19
| (?:3[01]|[12]\d|0?[1-9]) (?:st|nd|rd|th)? [-–—−/.,\s]{0,3}
  MONTH
  [-–—−/.,\s]{0,3} (?: (?:19|20)\d\d | ['’‘`´]? \d\d )
  # Aug 14, 2019  AUG 14 '19
| MONTH
  [-–—−/.,\s]{0,3} (?:3[01]|[12]\d|0?[1-9]) (?:st|nd|rd|th)?
  (?: [-–—−/.,\s]{0,3} (?:19|20)\d\d | [-–—−/.,\s]{1,3} \d\d | [-–—−/.,\s]{0,3} ['’‘`´] \s? \d\d )
  # 2019 Aug 14
| (?:19|20)\d\d [-–—−/.,\s]{0,3}
  MONTH
  [-–—−/.,\s]{0,3} (?:3[01]|[12]\d|0?[1-9])
)
# a time, also where the blank before it was not read
(?: (?: [-,T_\s日일]{1,3} \d{1,2} \s? [:.h] | \d{1,2} [:h] ) \s? [0-5]\d (?: \s? [:.] \s? [0-5]\d )? )?
(?!\d) (?![-.,:/]\d)
"""

NAMED = {"date": _DATE.replace("MONTH", _MONTH)}


@cache
def compiled(text: str) -> re.Pattern[str]:
    """Return the pattern *text*: a regular expression, or ``@name`` of a named one. Raises ValueError."""
    if text.startswith("@"):
        if text[1:] not in NAMED:
            raise ValueError(f"there is no pattern {text!r}, {nearest(text, ['@' + name for name in NAMED])}")
        return re.compile(NAMED[text[1:]])
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
