"""What `--match @date` takes for a date."""

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


def rows(table: str) -> list[str]:
    return [text for line in table.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", rows(DATES))
def test_dates_are_found(text: str) -> None:
    assert compiled("@date").search(text)


@pytest.mark.parametrize("text", rows(OTHERS))
def test_other_numbers_are_not(text: str) -> None:
    assert not compiled("@date").search(text)


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


def test_long_lines_do_not_take_long() -> None:
    find = compiled("@date").search
    start = time.perf_counter()
    for text in ("1 " * 2000, "12." * 2000, "2019-" * 1000, "2019 " + " " * 5000, "Aug " * 1000, "'" * 5000):
        find(text)
    assert time.perf_counter() - start < 1


def test_a_name_that_is_no_pattern_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'@date'"):
        compiled("@dat")
    with pytest.raises(ValueError, match="regular expression"):
        compiled("(")
