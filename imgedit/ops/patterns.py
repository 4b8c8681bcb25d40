"""Named patterns for what text says, and those that people write.

Each forgives what text recognition is known to do to it, where that cannot be mistaken for something else.
"""

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

# Prices: an amount beside a currency, which may stand before or behind it. Where the currency is certain, an O, o, I
# or l in the amount is a digit misread. No price: an amount alone, a currency alone, weights, "EURO 2020".
_AMOUNT = r"(?:(?=[0-9OIl,.]*[0-9])[0-9OoIl]{1,3}(?:[.,'’\s][0-9OoIl]{2,3}){1,4}|(?=[OoIl]{0,2}[0-9])[0-9OoIl]{1,9})"
_CENTS = r"(?:\s?[.,]\s?(?:[0-9OoIl]{1,2}(?![0-9])|[-–—]{1,2}))?"
_SIGN = r"[$€£¥￥₹₽₩₺₪₫₱₴฿¢]"
_CODE = r"(?:USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|RUB|TRY|BRL|MXN|KRW|SGD|HKD|ZAR)"
_PRICE = rf"""(?x) (?<![0-9A-Za-z.,]) (?:
  # $12.99  US$ 5  R$ 10,00  €1.299,00  CHF 12.50  Fr. 5.-  Rs. 500  kr 50
  (?: (?:US|AU|NZ|HK|[ACRS])?\$ | {_SIGN} | {_CODE}(?![A-Za-z]) | Fr\. | Rs\.? | [Kk]r\.? )
  \s{{0,2}} AMOUNT CENTS (?![0-9])
  # 12,99 €  1 299,00 EUR  1200円  50:-  99 kr  5 dollars  3 Euro
| AMOUNT CENTS (?: \s{{0,2}} (?: {_SIGN} | [円元圓원] | {_CODE}(?![A-Za-z])
    | (?: [Kk]r|zł|Kč|Ft|TL|lei|лв|грн|руб )(?![\w])
    | (?i:euros?|dollars?|cents?|rubles?|rupees?|yen|yuan)(?!\w) ) | :[-–—] )
)
""".replace("AMOUNT", _AMOUNT).replace("CENTS", _CENTS)

# Web addresses, with or without what stands before them; blanks behind points and slashes read as l are forgiven after
# http and www. Without these the end must be a usual one, and those that are words or file endings too need a path.
# No address of the web: one of mail, a file name, a number, words that lost the blank between them.
_ENDS = (
    "com|org|net|edu|gov|mil|info|biz|name|app|dev|shop|store|blog|news|photo|photos|photography|pics|gallery|studio"
    "|design|online|site|website|cloud|agency|media|space|club|world|digital|xyz|tech"
    "|io|tv|cc|ai|eu|de|ch|li|uk|ie|fr|nl|lu|es|pt|dk|se|fi|pl|cz|sk|hu|ro|bg|gr|hr|si|lt|lv|ee|ru|ua|tr|il|ca|mx|br"
    "|ar|cl|pe|au|nz|jp|cn|tw|hk|kr|sg|th|vn|ph|za|ng|ke|eg"
)
_WORDS = "ly|gl|gd|at|be|in|is|it|me|my|no|so|to|us|am|by|do|as|co|id|art|now|live|one|top|pro|fun|life"
_LABEL = r"[A-Za-z0-9À-ɏ](?:[A-Za-z0-9À-ɏ-]{0,61}[A-Za-z0-9À-ɏ])?"
_PATH = r"(?:\s?:\d{2,5})?(?:/[^\s]*)?"
_URL = rf"""(?x)
  # https://example.org/a  http:/ /example.org  httpslI example.org
  (?<![A-Za-z0-9@]) (?i:https?|ftp) \s? [:;.] \s? [/lI|\\]{{1,2}} \s? [/lI|]? \s? {_LABEL} (?:\s?[.,]\s?{_LABEL})*
  (?::\d{{2,5}})? (?:/[^\s]*)?
  # www.example.org  WWW.EXAMPLE.ORG  www. example. org  wwwexample.org  vvw.example.org
| (?<![A-KM-Za-km-z0-9@.]) [lI|/]{{0,3}}
  (?: (?i:w{{3,4}}|v{{2}}w|wv{{2}}w?) \s?[.,·]\s? | (?i:w{{3}})(?=[a-z0-9]) | (?i:w{{2}})[.] )
  {_LABEL} (?:\s?[.,]\s?{_LABEL})* \s?[.,]\s? [A-Za-z]{{2,13}} (?![A-Za-z]) {_PATH}
  # example.org  studio-nord.co.uk/photos  EXAMPLE.COM
| (?<![\w@.%-]) (?<!\w[©®]) (?: (?:{_LABEL}\.)* (?=[A-Za-z0-9À-ɏ-]*[A-Za-zÀ-ɏ]) {_LABEL} (?<=[\w-]{{2}}) \. )
  (?: (?:{_ENDS}|UPPER) (?![\w@©®-]) (?!\.[\w]) {_PATH} | (?:{_WORDS}) (?![\w@©®-]) (?=/[\w]) {_PATH} )
""".replace("UPPER", _ENDS.upper())

NAMED = {"date": _DATE.replace("MONTH", _MONTH), "price": _PRICE, "url": _URL}


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
