import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.cases import Case, Message, Prompt
from app.sampling.redaction import KINDS, Redactor, passes_luhn, passes_mod_97

ALL = Redactor(list(KINDS))

PERSONAL = {
    "email": [
        "ann@example.org",
        "ann.o'neil+tag@mail.example.co.uk",
        "ANN_B@Example.ORG",
        "jürgen@müller.example",
        "a@b.io",
    ],
    "card": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "340000000000009",
        "6011 0009 9013 9424",
        "2223003122003222",
    ],
    "iban": [
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "FR14 2004 1010 0505 0001 3M02 606",
        "nl91abna0417164300",
    ],
    "ip": ["192.168.10.21", "8.8.8.8", "2001:db8::8a2e:370:7334", "fe80::1"],
    "phone": [
        "+44 20 7946 0958",
        "+1-202-555-0143",
        "(202) 555-0143",
        "202-555-0143",
        "030 / 901820 - 44",
        "0049 30 901820",
        "+4915112345678",
        "06 12 34 56 78",
        "06.12.34.56.78",
        "020 7946 0958",
        "07700900123",
        "1-202-555-0143",
        "(0)30 901820",
        "(11) 91234-5678",
        "004915112345678",
        "015112345678",
    ],
}
IN_CONTEXT = [
    ("card", "4111 1111 1111 1111 12/27 is the card"),
    ("card", "No. 12 4111 1111 1111 1111"),
    ("card", "4111111111111111 4111111111111111"),
    ("iban", "pay GB82 WEST 1234 5698 7654 32 as soon as possible"),
    ("ip", "http://192.168.10.21:8080/x"),
    ("ip", "host:192.168.10.21,"),
    ("ip", "192.168.10.0/24"),
    ("ip", "[2001:db8::8a2e:370:7334]:443"),
    ("email", "mailto:ann@example.org?subject=x"),
    ("email", "'ann@example.org'"),
    ("email", "+ann@example.org"),
    ("email", "<ann@example.org>, bob@example.com"),
    ("email", "ann@пример.xn--p1ai"),
    ("phone", "call 2025550143 today"),
    ("phone", "Tel.: 612 34 56 78"),
    ("phone", "Tel. 4915112345678"),
    ("phone", "phone: 98765 43210"),
    ("phone", "+44 20 7946 0958 +44 20 7946 0959"),
]
HARMLESS = [
    "Order 12345678 shipped on 2026-03-02.",
    "It took 1234567 ms, or 0.123456789 s.",
    "version 1.2.3 and 10.4.0-rc1",
    "ratio 3:2, at 12:30:45",
    "4111 1111 1111 1112 is no card",
    "0000 0000 0000 0000",
    "price 1,234,567.89 USD",
    "ISBN 978-3-16-148410-0 is a book",
    "timestamp 1772409600",
    "GB00 WEST 1234 5698 7654 32 has a wrong check sum",
    "look@me, user@localhost",
    "std::vector<int>::iterator",
    "f(a)(b) == 12 + 34 - 56",
    "total: 100 200 300",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "999.999.999.999",
    "in 2024 2025 2026 we grew",
    "on 02/03/2026 10:30 and 2026-03-02 11",
    "microseconds 1772409600123456",
    "f :: Int -> Int; ab::cd",
    "0.0001234567 and 00012345678901234567890",
    "Order number 12345678901",
    "call 12 of 34",
    "AB12 CDEF 1234 5678 9012 3456",
    "words[::3] and text[0::2]",
    "append '@pinc.uk' to it",
    "strip('0123456789-')",
    "id=070463865f1934c6695907d8d6966a09",
    "811cc4402432526098596d",
    "EAN 0451887394036",
    "Version=8.8.9.4, Culture=neutral",
    "clone git@github.example:team/repo.git",
    "Order #0998398177 is late",
]


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in PERSONAL.items() for value in values]
)
def test_personal_data_is_replaced_wherever_it_stands(kind: str, value: str) -> None:
    redactor = Redactor([kind])
    for text in (value, f"Call {value}, please.", f"({value})", f"x: {value}\n", f'"{value}"'):
        redacted = redactor.text(text)
        assert value not in redacted
        assert f"[{kind}]" in redacted


@pytest.mark.parametrize(
    "value", [value for values in PERSONAL.values() for value in values], ids=str
)
def test_all_kinds_together_leave_no_digit_of_it(value: str) -> None:
    redacted = ALL.text(f"Contact: {value}.")
    assert not any(char.isdigit() for char in redacted)
    assert "@" not in redacted


@pytest.mark.parametrize(("kind", "text"), IN_CONTEXT)
def test_what_stands_beside_personal_data_does_not_hide_it(kind: str, text: str) -> None:
    redacted = Redactor([kind]).text(text)
    assert f"[{kind}]" in redacted
    longest = max(
        (run for run in "".join(c if c.isdigit() else " " for c in redacted).split()),
        key=len,
        default="",
    )
    assert len(longest) < 5
    assert "@" not in redacted


@pytest.mark.parametrize("text", HARMLESS)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert ALL.text(text) == text


def test_custom_patterns_are_replaced() -> None:
    assert Redactor([r"re:ACC-\d+"]).text("account ACC-991 of") == "account [redacted] of"


def test_only_the_kinds_asked_for_are_replaced() -> None:
    text = "ann@example.org, +44 20 7946 0958"
    assert Redactor(["phone"]).text(text) == "ann@example.org, [phone]"


def test_nothing_asked_for_changes_nothing() -> None:
    assert Redactor([]).text("ann@example.org") == "ann@example.org"


@pytest.mark.parametrize("pattern", ["emial", "re:(", ""])
def test_an_unknown_kind_or_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"kind of personal data|regular expression"):
        Redactor([pattern])


def test_every_text_of_a_prompt_is_redacted() -> None:
    mail = "ann@example.org"
    use = {"type": "tool_use", "id": "c", "name": "send", "input": {"to": [mail, {"cc": mail}]}}
    result = {
        "type": "tool_result",
        "tool_use_id": "c",
        "content": [{"type": "text", "text": mail}],
    }
    prompt = Prompt(
        system=f"You serve {mail}",
        messages=(
            Message(role="user", content=mail),
            Message(role="assistant", content=({"type": "text", "text": mail}, use)),
            Message(role="user", content=(result,)),
        ),
        tools=({"name": "send", "description": f"to {mail}", "input_schema": {"type": "object"}},),
    )
    assert mail not in str(Redactor(["email"]).prompt(prompt).to_json())


def test_images_are_left_alone() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "4111111111111111"}}
    prompt = Prompt(messages=(Message(role="user", content=(image,)),))
    assert ALL.prompt(prompt) == prompt


def test_a_case_is_redacted_in_all_its_texts() -> None:
    mail = "ann@example.org"
    case = Case(
        case_id="c",
        source_id="s",
        ordinal=0,
        weight=1.0,
        prompt=Prompt(messages=(Message(role="user", content=mail),)),
        reference=mail,
        logged_response=mail,
        tool_calls=({"type": "tool_use", "name": "send", "input": {"to": mail}},),
    )
    assert mail not in str(Redactor(["email"]).case(case))


@settings(deadline=None)
@given(st.text(max_size=80))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = ALL.text(text)
    assert ALL.text(once) == once


@settings(deadline=None)
@given(st.text("0123456789 -+.()@:/aAbB\n", max_size=4_000))
def test_any_text_can_be_redacted(text: str) -> None:
    assert isinstance(ALL.text(text), str)


@settings(deadline=None)
@given(st.text("0123456789", min_size=12, max_size=18))
def test_exactly_one_last_digit_passes_luhn(digits: str) -> None:
    assert sum(passes_luhn(f"{digits}{last}") for last in range(10)) == 1


def test_a_swapped_pair_fails_the_iban_check() -> None:
    assert passes_mod_97("DE89370400440532013000")
    assert not passes_mod_97("DE89370400440532010300")
