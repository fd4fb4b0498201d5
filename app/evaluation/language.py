"""The language check: does the reply speak the language it should?"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned, passed

_LETTERS_READ = 3000
_FEWEST_HITS = 3
_LEAD = 1.25
"""How far the best language's common words must outnumber the next one's."""

_CODE = re.compile(r"```.*?```|`[^`\n]*`|https?://\S+", re.DOTALL)
_LATIN_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

_BY_SCRIPT: Mapping[str, str] = {
    "HANGUL": "ko",
    "THAI": "th",
    "HEBREW": "he",
    "GREEK": "el",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
}
_JAPANESE = {"HIRAGANA", "KATAKANA"}
_CYRILLIC_MARKS = {"uk": "іїєґ", "be": "ў", "sr": "јљњћђџ", "ru": "ыэё"}
_ARABIC_MARKS = {"ur": "ٹڈےں", "fa": "پچژگ"}

# Common words that few other languages share; what two share counts for both.
_COMMON: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to is in that it you for was with are this have be on your not can will "
        "would which from they we please what there their has or been if an as our",
        "de": "der die das und ist nicht sie ich ein eine zu den mit auf für von dem im es auch "
        "wird sind wir haben bei wie oder nach aus können ihre werden einen dass durch noch",
        "fr": "le la les et est des une un que pour dans vous pas sur avec ce il qui sont votre "
        "nous du au plus par être cette mais ne je ou ont peut aux leur",
        "es": "el la los las y es de que en un una por para con no su del se lo como más pero sus "
        "está son este esta puede usted hay ser muy también al nuestro",
        "pt": "o a os as e é de que em um uma por para com não seu do da se mais mas como está são "
        "você isso ser muito também ao pelo pela nós dos das foi tem",
        "it": "il la gli le e è di che in un una per con non si del della sono come più ma questo "
        "anche può essere nel alla dei delle ha lo suo puoi dal sul",
        "nl": "de het een en is van dat niet in op te voor met zijn je ook aan er maar om als dit "
        "wordt kunnen uw naar bij wij deze door heeft nog geen",
        "sv": "och att det är som en på för med av inte till den har ett jag kan du om vi så men "
        "din var eller från efter när också detta",
        "da": "og at det er som en på for med af ikke til den har et jeg kan du om vi så men din "
        "var eller fra efter når også dette",
        "no": "og at det er som en på for med av ikke til den har et jeg kan du om vi så men din "
        "var eller fra etter når også dette",
        "fi": "ja on ei se että hän oli mutta ovat kun niin tai myös voi jos kuin sen olla tämä "
        "ole joka mitä sinun voit siitä",
        "pl": "i w nie na się że jest z do to o jak ale po co tak za od przez dla czy są może oraz "
        "tego jego być proszę można który",
        "cs": "a se na je v že to s z do o jako ale by tak za od pro jsou nebo může být který jsme "
        "není také při podle jeho",
        "ro": "și de la în a nu că este cu pe un o din mai care pentru sunt ce se fi dar sau ca "
        "acest această poate dumneavoastră au prin",
        "hu": "a az és hogy nem is egy van meg ez csak ha de mint már vagy volt kell lehet ön még "
        "nagyon minden után",
        "tr": "ve bir bu için ile de da çok olarak daha var ne gibi olan ama en değil her kadar "
        "sonra veya ise size bize sizin",
        "id": "yang dan di untuk dengan tidak ini itu dari pada adalah ke anda dalam akan kami "
        "atau juga bisa dapat telah sudah saya ada",
        "vi": "và của là có không cho được trong một các với để này khi người những đã từ bạn như "
        "về thể sẽ tôi",
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Language(Versioned):
    """1 when the reply is written in the right language, else 0.

    Told by script and by common words, for about thirty languages. A text too short or too mixed
    to tell is Unscored: limit the check by `when` to Cases answered in sentences.

    Attributes:
        expected: ISO 639-1 code such as `de`, or `prompt` for the language of the last user turn.
    """

    name: ClassVar[str] = "language"

    expected: str = "prompt"

    def __post_init__(self) -> None:
        if self.expected != "prompt" and self.expected not in KNOWN_LANGUAGES:
            known = ", ".join(sorted(KNOWN_LANGUAGES))
            raise ValueError(f"`{self.expected}` is none of prompt, {known}")

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Tell the language of both sides and compare."""
        wanted: str | None = self.expected
        if wanted == "prompt":
            wanted = language_of(case.prompt.last_user_text)
        if wanted is None:
            return Unscored(reason="the language of the prompt cannot be told")
        found = language_of(completion.text)
        if found is None:
            return Unscored(reason="the language of the reply cannot be told")
        return passed(found == wanted, f"the reply is in {found}, {wanted} wanted")


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of the text's language, None when it cannot be told.

    >>> language_of("Der Vertrag wird nach dem Ende der Frist nicht mehr geändert.")
    'de'
    >>> language_of("42") is None
    True
    """
    text = unicodedata.normalize("NFC", _CODE.sub(" ", text)).lower()
    scripts = Counter(_script(sign) for sign in text[:_LETTERS_READ] if sign.isalpha())
    if not scripts:
        return None
    script, count = scripts.most_common(1)[0]
    total = scripts.total()
    if any(scripts[kana] for kana in _JAPANESE) and script in {*_JAPANESE, "CJK"}:
        return "ja"
    if count < 0.6 * total:
        return None
    match script:
        case "CJK":
            return "zh"
        case "CYRILLIC":
            return _by_marks(text, _CYRILLIC_MARKS) or ("bg" if "ъ" in text else "ru")
        case "ARABIC":
            return _by_marks(text, _ARABIC_MARKS) or "ar"
        case "LATIN":
            return _latin(text)
        case _:
            return _BY_SCRIPT.get(script)


def _latin(text: str) -> str | None:
    words = Counter(_LATIN_WORD.findall(text)[:_LETTERS_READ])
    hits = Counter(
        {
            language: sum(count for word, count in words.items() if word in common)
            for language, common in _COMMON.items()
        }
    )
    (best, first), (_, second) = hits.most_common(2)
    if first < _FEWEST_HITS or first < _LEAD * second:
        return None
    return best


def _by_marks(text: str, marks: Mapping[str, str]) -> str | None:
    counts = Counter({name: sum(map(text.count, letters)) for name, letters in marks.items()})
    best, count = counts.most_common(1)[0]
    return best if count else None


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0]


KNOWN_LANGUAGES = frozenset(
    {*_COMMON, *_BY_SCRIPT.values(), *_CYRILLIC_MARKS, *_ARABIC_MARKS, "ja", "zh", "ar", "bg"}
)
