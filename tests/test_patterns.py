"""What `--match @date`, `@price` and `@url` take for one."""

from __future__ import annotations

import time

import pytest

from imgedit.ops.patterns import compiled

DATES = """
2019-08-14|2019/8/14|2019.08.14|2019 08 14|2019 8 14|2019:08:14|2019 - 08 - 14|2019- 08-14
2019-08 14|2019–08–14|2019.08-14
14.08.2019|14.8.2019|14/08/2019|14-08-2019|14 08 2019|14. 8. 2019|14 . 08 . 2019|14.08 2019|14,08,2019|31.12.1999
8/14/2019|08/14/2019|08-14-2019|8 14 2019|12/31/1999
8/14/19|08/14/19|14.08.19|14.8.19|14-08-19|1/2/34|24.12.07|3.11.28|14 . 08 . 19|19-08-14|19/08/14|28.11.03
'19 8 14|'19  8 14|'19 08 14|' 19 8 14|’19 8 14|´03 11 28|'03 11 28|'03.11.28|'03-11-28|14 8 '19|8 14 '19|14.08.'19
03 11 28|19 8 14|14 08 19|08 14 19
20190814|19991231
14. Aug 2019|14 Aug 2019|14Aug2019|14 AUG 19|14-AUG-2019|14-Aug-19|14 AUG '19
3rd March 2007|1 May 1999|24 December 2007|5 Sept. 2011
Aug 14, 2019|Aug 14 2019|Aug14,2019|AUG 14 '19|AUG. 14. 2019|AUGUST 14, 2019
July 4th, 1999|DEC 24 07|Dec.24,2007|Jan 1 2000
2019 Aug 14|2019-AUG-14|2019Aug14
2019年8月14日|2019年08月14日|2019 年 8 月 14 日|撮影日2019年8月14日|2019년 8월 14일
2019-08-14 12:31|2019-08-14 12:31:05|2019-08-14T12:31:05Z|2019-08-1412:31|14.08.201918:05|24.12.2007 18:05
24.12.2007, 18.05|18:05 24.12.2007|10:30 AM 2019/08/14|8/14/19 6:05 PM|'19 8 14 18:05|03 11 28 18:05
2019-08-14 9h05|2019年8月14日 12:31
14.08.2019.|(14.08.2019)|Date: 2019-08-14|shot on 8/14/19, Rome|2016/08/30 Lisbon|20190814 1030
"""

OTHERS = """
192.168.1.10|10.11.12.13|10.11.1.213|19.12.10.5|8.8.8.8|255.255.255.0|10.0.12.30:8080
555 12 3456|555-12-3456|0171 12 03 45|01 02 03 04 05|+49 30 12 11 13|12 03 45 67|(030) 12 34 56|1234 5678 9012 3456
12:30:45|12:30|18.05|23:59:59.12|00:12:19|10:11:12:13
v1.2.3|1.2.3|v1.2.13|V2.10.19|3.10|b2.3.14
2019|2019-2020|2008/09|2019-13-01|2019-00-10|2019-10-32|2019-10-00|32.01.2019|00.01.2019|13/13/2019|0/5/2019|14.08.3019|14.08.219
20191399|20190800|20190832|201908141|120190814|2019081|IMG20190814
1920 x 1080|1,920,800|12.10 14.20|3.50|$12.99|-12.5|48.12.34|45 12 99|99.99.99|99 99 99|14.08-19|8-14/19
978-3-12-148410-0|DE89 3704 0044 0532 0130 00|No. 118|Lot 5, Nr. 118|A4 12-14|12-14|F/2.8 1/125 ISO 200|f 4.5-5.6
Summer 2014|Aug 2019|August|May|14 Aug|Maybe 14 2019|Marche 14 2019|14 Augen 2019|Photo: M. Keller|img_4711.jpg
The quick brown fox|© Studio Nord|50 mm|1/250 s|100 %|24 h|7 11|10 km|16 8 4 2|2 4 8 16 32
"""


PRICES = """
$12.99|$ 12.99|$5|$1,299|$1,299.00|US$ 10|A$5.50|R$ 10,00|€12|€ 12,50|12,99 €|12.99€|12 €|EUR 12.99|12,99 EUR
1.299,00 €|1 299,00 €|1'299.00 CHF|CHF 12.50|Fr. 5.-|12,- €|12.– €|£3.50|£3|USD 5|5 USD|¥1200|￥1,200|1200円|100元
₹500|₹1,00,000|Rs. 500|Rs 1,500|50 kr|kr 50|99:-|49,90 zł|990 Kč|100 ₽|100 руб|99¢|5 dollars|3 Euro|20 cents
Only $5!|2 for $5|Price: €12|$1O.99|$12.9O|€l2,50|Sale 12,99 € today|ab 9,99€
"""

NO_PRICES = """
12.99|100 %|F/2.8|50 mm|USD|$|€|EURO 2020|EUROPE 12|5 pounds|20 lb|$HOME|A$AP|10 ct|2019-08-14|14.08.2019|12:30
+49 30 123456|No. 118|Lot 5, Nr. 118|ISO 200|Summer 2014|img_4711.jpg|50 krona fans|10 Trylon|CHF|kr|Euro
1920 x 1080|EURO CUP 2024|USDA 12|5 centsible|$IO|Fri 12.50|3 yens
"""

URLS = """
https://example.org|http://example.org/a?b=1#c|HTTPS://EXAMPLE.ORG|http:/ /example.org|https:/lexample.org
ftp://files.example.net|www.example.org|WWW.EXAMPLE.ORG|www. example. org|www,example.org|wwwexample.org
ww.example.org|vvw.example.org|llwww.example.org|www.studio-nord.de/photos|www.müller.at|example.org
studio-nord.co.uk/photos|EXAMPLE.COM|Example.com|see example.com for more|shop.example.io|flickr.com/photos/4711
bit.ly/3abc|(example.org)|example.org.|Photo: example.org|example.com:8080/x|youtu.be/abc|www.example.photography
http://localhost:8080/a|©example.com
"""

NO_URLS = """
name@example.org|first.last@example.com|info.de@x.org|info@www-example.org|img_4711.jpg|IMG_4711.PNG|report.pdf
No.118|M.Keller|Photo: M. Keller|e.g. this|a.m.|12.5|192.168.1.10|1.2.3|14.08.2019|harbour.At night
harbour.It was|end.The|Mr.Smith|v1.2.de|www|http|com|Dr.No|St.Moritz|3.de|U.S.A|Wow. Nice|main.py|run.sh
name©example.org
"""


def rows(table: str) -> list[str]:
    return [text for line in table.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", rows(DATES))
def test_dates_are_found(text: str) -> None:
    assert compiled("@date").search(text)


@pytest.mark.parametrize("text", rows(OTHERS))
def test_other_numbers_are_not(text: str) -> None:
    assert not compiled("@date").search(text)


@pytest.mark.parametrize(("name", "text"), [("@price", t) for t in rows(PRICES)] + [("@url", t) for t in rows(URLS)])
def test_prices_and_addresses_are_found(name: str, text: str) -> None:
    assert compiled(name).search(text)


@pytest.mark.parametrize(
    ("name", "text"), [("@price", t) for t in rows(NO_PRICES)] + [("@url", t) for t in rows(NO_URLS)]
)
def test_amounts_names_and_mail_are_not(name: str, text: str) -> None:
    assert not compiled(name).search(text)


@pytest.mark.parametrize("text", rows(DATES))
def test_dates_are_no_prices_and_no_addresses(text: str) -> None:
    assert not compiled("@price").search(text) and not compiled("@url").search(text)


def test_every_day_of_a_year_in_the_usual_forms() -> None:
    find = compiled("@date").search
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    for month in range(1, 13):
        for day in range(1, 32):
            for text in (
                f"2024-{month:02}-{day:02}",
                f"{day}.{month}.2024",
                f"{month}/{day}/24",
                f"'24 {month:2} {day:2}",
                f"{day:02} {names[month - 1]} 2024",
                f"{names[month - 1]} {day}, 2024",
                f"2024{month:02}{day:02}",
                f"2024年{month}月{day}日",
            ):
                found = find(text)
                assert found and found.group() in (text, text.removesuffix("日")), text


@pytest.mark.parametrize("name", ["@date", "@price", "@url"])
def test_long_lines_do_not_take_long(name: str) -> None:
    find = compiled(name).search
    start = time.process_time()
    for text in ("1 ", "12.", "1,", "2019-", "Aug ", "'", "a.", "a-", "www.", "$1 ", "O", "http://", "1 234 ", "a"):
        find(text * 2000)
    find("2019 " + " " * 5000)
    assert time.process_time() - start < 1


def test_a_name_that_is_no_pattern_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'@date'"):
        compiled("@dat")
    with pytest.raises(ValueError, match="regular expression"):
        compiled("(")
