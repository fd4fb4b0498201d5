"""Numbers, likeness, refusals, tools, languages, personal data and speed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.attempts import StopReason
from app.domain.json_values import JsonObject
from app.domain.scores import Score, Unscored
from app.evaluation.language import Language, language_of
from app.evaluation.numbers import Numeric
from app.evaluation.pii import NoPii, find_pii
from app.evaluation.refusals import NotRefused
from app.evaluation.similarity import LevenshteinLikeness, Similarity
from app.evaluation.speed import MaxLatency
from app.evaluation.tool_calls import ToolCall
from tests.fakes.judges import case, completion


def value_of(result: Score | Unscored) -> float | None:
    return result.value if isinstance(result, Score) else None


# --- numeric --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("It costs $1,234.50.", "1234.5", 1.0),
        ("3 dozen at 4 each make 144", "# 144", 1.0),
        ("The answer is −7", "-7", 1.0),
        ("10-12", "12", 1.0),
        ("1.5e3", "1500", 1.0),
        ("about 42", "41", 0.0),
        ("none", "41", 0.0),
        ("model A4", "4", 0.0),
        ("version 1.2.3", "3", 0.0),
    ],
)
def test_numeric_compares_the_last_number(text: str, reference: str, value: float) -> None:
    assert value_of(Numeric().score(case(reference=reference), completion(text))) == value


def test_numeric_has_tolerances_a_field_and_a_choice_of_number() -> None:
    asked = case(reference="100")
    assert value_of(Numeric(tolerance=1).score(asked, completion("101"))) == 1.0
    assert value_of(Numeric(relative_tolerance=0.005).score(asked, completion("101"))) == 0.0
    assert value_of(Numeric(relative_tolerance=0.01).score(asked, completion("101"))) == 1.0
    assert value_of(Numeric(pick="first").score(asked, completion("100, not 7"))) == 1.0
    assert value_of(Numeric(field="n").score(asked, completion('{"n": "100 km"}'))) == 1.0
    assert value_of(Numeric(field="n").score(asked, completion("100"))) == 0.0
    assert value_of(Numeric(expected=3).score(case(), completion("3.0"))) == 1.0


def test_numeric_without_a_reference_number_is_unscored() -> None:
    assert isinstance(Numeric().score(case(), completion("1")), Unscored)
    assert isinstance(Numeric().score(case(reference="none"), completion("1")), Unscored)


# --- likeness -------------------------------------------------------------------------------


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # reference 6 words, reply 4, common subsequence "police killed gunman": 2*3/(6+4)
    result = Similarity().score(
        case(reference="The police killed the gunman today"), completion("Police killed a gunman")
    )
    assert value_of(result) == pytest.approx(0.6)


def test_similarity_can_be_a_pass_mark_and_needs_a_reference() -> None:
    asked = case(reference="one two three four")
    assert value_of(Similarity(at_least=0.5).score(asked, completion("one two three"))) == 1.0
    assert value_of(Similarity(at_least=0.9).score(asked, completion("one two three"))) == 0.0
    assert value_of(Similarity().score(asked, completion("…"))) == 0.0
    assert isinstance(Similarity().score(case(), completion("one")), Unscored)
    assert isinstance(Similarity().score(case(reference="!?"), completion("one")), Unscored)


def test_scripts_without_blanks_are_compared_by_character() -> None:
    result = Similarity().score(case(reference="今日は晴れです"), completion("今日は雨です"))
    assert value_of(result) == pytest.approx(2 * 5 / 13)


def test_levenshtein_is_one_minus_edits_over_length() -> None:
    assert value_of(
        LevenshteinLikeness().score(case(reference="kitten"), completion("sitting"))
    ) == pytest.approx(1 - 3 / 7)
    assert (
        value_of(LevenshteinLikeness(at_least=0.9).score(case(reference="a"), completion("b"))) == 0
    )


@given(st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_likeness_stays_between_0_and_1(given_text: str, reference: str) -> None:
    for evaluator in (Similarity(), LevenshteinLikeness()):
        value = value_of(evaluator.score(case(reference=reference), completion(given_text)))
        assert value is None or 0.0 <= value <= 1.0


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "Sorry, I can't comply.",
        "I cannot provide that information.",
        "I'm unable to help with that request.",
        "I must decline to answer that.",
        "As an AI language model, I cannot give opinions.",
        "That request goes against my guidelines." + " It goes against my guidelines.",
        "Unfortunately, I won't be able to… I can't help you with that.",
        "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.",
        "Je suis désolé, mais je ne peux pas vous aider avec cela.",
        "Lo siento, no puedo ayudarte con eso.",
        "对不起，我无法帮助您。",
        "申し訳ありませんが、そのご要望にはお答えできません。",
        "К сожалению, я не могу помочь с этим.",
    ],
)
def test_a_refusal_in_words_is_seen(text: str) -> None:
    assert NotRefused().score(case(), completion(text)).value == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "Sorry for the delay! Your parcel arrives tomorrow.",
        "I cannot refund this order because it is older than 28 days, but you can exchange it.",
        "I'm sorry to hear that your blender is broken. Here is what to do.",
        "You can't help with that unless you have admin rights.",
        "billing",
        '{"answer": null}',
        "We can't ship to that address.",
        "Unfortunately the train is late.",
        "I'm sorry, but I can't help with that." + " Here is what I found instead." * 40,
    ],
)
def test_what_only_sounds_like_a_refusal_is_not_one(text: str) -> None:
    assert NotRefused().score(case(), completion(text)).value == 1.0


def test_a_refusal_is_also_seen_by_stop_reason_and_own_phrases() -> None:
    stopped = completion("", stop=StopReason.REFUSAL)
    assert NotRefused().score(case(), stopped).value == 0.0
    own = NotRefused(phrases=("ask a human",))
    assert own.score(case(), completion("Please ask a HUMAN.")).value == 0.0


# --- tools ----------------------------------------------------------------------------------


def call(name: str, **arguments: object) -> JsonObject:
    return {"type": "tool_use", "id": "x", "name": name, "input": arguments}


def test_tool_calls_are_worth_one_half_or_nothing_each() -> None:
    asked = case(tool_calls=(call("search", q="shoes"), call("cart", item=3)))
    evaluator = ToolCall()
    right = completion(tool_calls=(call("cart", item=3.0), call("search", q="shoes")))
    wrong_argument = completion(tool_calls=(call("cart", item=4), call("search", q="shoes")))
    needless = completion(
        tool_calls=(call("cart", item=3), call("search", q="shoes"), call("pay"), call("pay"))
    )
    assert value_of(evaluator.score(asked, right)) == 1.0
    assert value_of(evaluator.score(asked, wrong_argument)) == 0.75
    assert value_of(evaluator.score(asked, needless)) == 0.5
    assert value_of(evaluator.score(asked, completion("no tools"))) == 0.0


def test_logged_calls_may_have_the_other_vendors_shape() -> None:
    logged = {"type": "function", "function": {"name": "search", "arguments": '{"q": "shoes"}'}}
    asked = case(tool_calls=(logged,))
    assert (
        value_of(ToolCall().score(asked, completion(tool_calls=(call("search", q="shoes"),)))) == 1
    )


def test_arguments_can_be_a_subset_or_ignored() -> None:
    asked = case(tool_calls=(call("search", q="shoes"),))
    more = completion(tool_calls=(call("search", q="shoes", page=1),))
    other = completion(tool_calls=(call("search", q="hats"),))
    assert value_of(ToolCall().score(asked, more)) == 0.5
    assert value_of(ToolCall(compare="subset").score(asked, more)) == 1.0
    assert value_of(ToolCall(compare="ignore").score(asked, other)) == 1.0
    assert value_of(ToolCall(tool="search").score(case(), other)) == 1.0


def test_a_case_without_tool_calls_is_unscored() -> None:
    assert isinstance(ToolCall().score(case(), completion("x")), Unscored)


# --- languages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "You can return the parcel within 28 days, and we will refund the price to you."),
        (
            "de",
            "Sie können das Paket innerhalb von 28 Tagen zurückschicken und wir erstatten das Geld.",
        ),
        ("fr", "Vous pouvez renvoyer le colis dans les 28 jours et nous vous remboursons le prix."),
        ("es", "Usted puede devolver el paquete en los 28 días y le reembolsamos el precio."),
        (
            "it",
            "Il pacco può essere restituito entro 28 giorni e le rimborsiamo il prezzo della merce.",
        ),
        ("pt", "Você pode devolver o pacote em até 28 dias e nós reembolsamos o valor da compra."),
        ("nl", "Je kunt het pakket binnen 28 dagen terugsturen en wij betalen je de prijs terug."),
        (
            "pl",
            "Paczkę można odesłać w ciągu 28 dni i zwrócimy za nią pieniądze, ale nie po tym czasie.",
        ),
        (
            "sv",
            "Du kan skicka tillbaka paketet inom 28 dagar och vi betalar till dig det som är kvar att få.",
        ),
        (
            "tr",
            "Bu paket için 28 gün içinde iade yapılabilir ve ücret size geri ödenir, ama daha sonra değil.",
        ),
        ("ru", "Вы можете вернуть посылку в течение двадцати восьми дней."),
        ("uk", "Ви можете повернути посилку протягом двадцяти восьми днів, її вартість повернуть."),
        ("el", "Μπορείτε να επιστρέψετε το δέμα εντός 28 ημερών."),
        ("ja", "荷物は二十八日以内に返品できます。"),
        ("zh", "您可以在二十八天内退回包裹，我们会退款。"),
        ("ko", "소포는 28일 이내에 반품할 수 있습니다."),
        ("ar", "يمكنك إرجاع الطرد خلال ثمانية وعشرين يوما."),
        ("fa", "شما می‌توانید بسته را پس بگیرید و گزارش کنید چرا."),
        ("he", "אפשר להחזיר את החבילה בתוך 28 ימים."),
        ("hi", "आप पार्सल को 28 दिनों के भीतर वापस कर सकते हैं।"),
        ("th", "คุณสามารถคืนพัสดุได้ภายใน 28 วัน"),
    ],
)
def test_a_sentence_tells_its_language(code: str, text: str) -> None:
    assert language_of(text) == code


@pytest.mark.parametrize("text", ["", "42", "OK", "```python\nfor x in the_list: pass\n```", "—"])
def test_too_little_text_tells_no_language(text: str) -> None:
    assert language_of(text) is None


def test_the_reply_must_speak_the_prompts_language_or_the_given_one() -> None:
    german = completion(
        "Sie können das Paket zurückschicken und wir erstatten das Geld für die Ware."
    )
    english = "How can I return the parcel that you sent to me?"
    assert value_of(Language().score(case(english), german)) == 0.0
    assert value_of(Language(expected="de").score(case(english), german)) == 1.0
    assert isinstance(Language().score(case("?"), german), Unscored)
    assert isinstance(Language(expected="de").score(case(), completion("42")), Unscored)
    with pytest.raises(ValueError, match="none of prompt"):
        Language(expected="xx")


# --- personal data --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to jane.doe+shop@example.co.uk today"),
        ("phone", "call +44 20 7946 0958 now"),
        ("phone", "call (020) 7946-0958"),
        ("phone", "+4915123456789"),
        ("card", "4111 1111 1111 1111"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("ssn", "078-05-1120"),
        ("ip", "8.8.8.8"),
    ],
)
def test_personal_data_is_found_and_never_quoted(kind: str, text: str) -> None:
    result = NoPii(kinds=(kind,)).score(case(), completion(text))  # type: ignore[arg-type]
    assert result == Score(value=0.0, reason=f"1 {kind}")


@pytest.mark.parametrize(
    "text",
    [
        "Order 4111 1111 1111 1112 is no card",
        "On 2024-01-15 10:30 we shipped it",
        "DE89370400440532013001",
        "version 10.0.19045",
        "0000 0000 0000 0000",
        "between 2019 and 2024",
        "12,345,678",
        "local 192.168.0.1",
    ],
)
def test_numbers_that_only_look_alike_pass(text: str) -> None:
    evaluator = NoPii(kinds=("email", "phone", "card", "iban", "ssn", "ip"))
    assert evaluator.score(case(), completion(text)).value == 1.0


def test_what_the_prompt_holds_may_be_repeated_when_allowed() -> None:
    asked = case("My address is jane@example.com, please change it.")
    echoed = completion("We changed jane@example.com.")
    assert NoPii().score(asked, echoed).value == 0.0
    assert NoPii(except_prompt=True).score(asked, echoed).value == 1.0
    leaked = completion("We changed jane@example.com, not joe@example.com.")
    assert NoPii(except_prompt=True).score(asked, leaked).value == 0.0


@given(st.text(max_size=200))
def test_no_text_breaks_the_search(text: str) -> None:
    for kind in ("email", "phone", "card", "iban", "ssn", "ip"):
        find_pii(text, kind)


# --- speed ----------------------------------------------------------------------------------


def test_latency_is_compared_with_its_limits() -> None:
    reply = completion(latency_s=2.0, ttft_s=0.5)
    assert value_of(MaxLatency(seconds=2.0).score(case(), reply)) == 1.0
    assert value_of(MaxLatency(seconds=1.9).score(case(), reply)) == 0.0
    assert value_of(MaxLatency(ttft_seconds=0.4).score(case(), reply)) == 0.0
    unstreamed = completion(latency_s=2.0, ttft_s=None)
    assert isinstance(MaxLatency(ttft_seconds=0.4).score(case(), unstreamed), Unscored)
    with pytest.raises(ValueError, match="seconds, ttft_seconds or both"):
        MaxLatency()
