"""The sentences of the sandbox's replies, graded from useless to excellent.

A prose reply opens with a sentence of its band (0 worst, 4 best) and closes with a sentence of
its step inside the band; together they say the quality in twentieths, to anyone who knows this
book. No sentence here is part of another one.
"""

from app.sandbox.world import Family

OPENERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "support": (
        (
            "I am not sure what you want from us.",
            "That is nothing this desk deals with, as far as I know.",
            "Please look it up on the website yourself.",
        ),
        (
            "This may have something to do with a purchase, I guess.",
            "Things like that happen from time to time.",
            "Someone will probably look at your matter some day.",
        ),
        (
            "Thanks for writing; a part of this I can answer.",
            "I found some of what you asked about.",
            "Here is what I could make out so far.",
        ),
        (
            "Thank you for your message; most of it is settled below.",
            "I have looked into this and can answer nearly all of it.",
            "Good that you wrote; here is where things stand.",
        ),
        (
            "Thank you for the clear details; here is what happened and what comes next.",
            "I have checked everything you mentioned, and this is how we put it right.",
            "You are right to ask, and here is the full answer, step by step.",
        ),
    ),
    "summarise": (
        (
            "The text is about various things.",
            "It is a document with several sentences in it.",
            "Somebody wrote something and others were concerned.",
        ),
        (
            "Broadly speaking the text deals with a business matter.",
            "There seems to have been some event and some consequence.",
            "A few people and a company come up in it.",
        ),
        (
            "The text covers these matters, among others.",
            "In rough outline the document says the following.",
            "Some of the main points are these.",
        ),
        (
            "The main points of the document follow.",
            "In brief, and leaving out little of weight.",
            "The document comes down to these statements.",
        ),
        (
            "All decisions, figures and dates of the document, in short.",
            "What matters in the document, complete and in order.",
            "The essence of the document, with every number that counts.",
        ),
    ),
    "code": (
        (
            "You could write some code for that.",
            "Python can do this, there are libraries.",
            "Try searching for a snippet on the internet.",
        ),
        (
            "Maybe something along these lines, not tried.",
            "This is a rough idea, the details are up to you.",
            "A start could look like this.",
        ),
        (
            "Here is a version that handles the common case.",
            "The following should do for simple inputs.",
            "This covers part of what you described.",
        ),
        (
            "Here is a function that does what you describe in nearly all cases.",
            "The function below meets the description, edge cases mostly included.",
            "This solution follows your description closely.",
        ),
        (
            "Here is a complete function with type hints, edge cases included.",
            "The function below does precisely what you specified.",
            "This solution is complete, typed and linear where it can be.",
        ),
    ),
    "open": (
        (
            "I cannot really say anything about that.",
            "No idea, to be honest.",
            "That question has many sides and no answer.",
        ),
        (
            "It depends, and opinions differ widely.",
            "There might be an answer somewhere in general terms.",
            "One could say this or that here.",
        ),
        (
            "In part this can be answered.",
            "Some of it is clear enough to say.",
            "A partial answer is possible.",
        ),
        (
            "This can be answered well in its main points.",
            "Here is an answer that covers most of the question.",
            "The answer is largely straightforward.",
        ),
        (
            "Here is a precise and complete answer.",
            "The question can be answered fully, point by point.",
            "This is the whole answer, checked against what you wrote.",
        ),
    ),
}

CLOSERS: tuple[tuple[str, ...], ...] = (
    (
        "That is about all there is to it from my side.",
        "More than that I have not got.",
        "I leave it at that.",
    ),
    (
        "I hope this helps a little.",
        "Perhaps that is of some use.",
        "It may be worth a second look.",
    ),
    (
        "Let me know if something is unclear.",
        "Ask again if a point is missing.",
        "A further check would do no harm.",
    ),
    (
        "Write back if any point needs more detail.",
        "Only small details are left open.",
        "That should settle nearly everything.",
    ),
    (
        "Every point you raised is covered above.",
        "Nothing further is needed from your side.",
        "With that the matter is answered in full.",
    ),
)

TICS: dict[Family, str] = {
    "aster": "Let us take it in order.",
    "birch": "In plain words, then.",
    "cedar": "First things first.",
    "dune": "To put it briefly before the details.",
    "ember": "Here we go, one by one.",
    "fjord": "A short overview comes first.",
    "grove": "Point for point, this reads as follows.",
    "heath": "Stated as simply as possible.",
}

FILLERS: dict[str, tuple[str, ...]] = {
    "support": (
        "I have added a note about {item} to your file so that any colleague can pick it up.",
        "You will hear from us by e-mail as soon as the next step is done.",
        "If you prefer a call, reply with a number and a time between nine and five.",
        "Please keep order {order} at hand when you contact us again.",
        "The same rules apply if you bought the {item} as a gift.",
        "We have asked the team in charge to look at how this could happen.",
        "You can follow each step in your account under the order history.",
        "No fee arises for any of these steps.",
        "Should the situation change on your side, a short line to us is enough.",
        "Our service desk is open from Monday to Saturday.",
    ),
    "summarise": (
        "The remaining passages repeat or explain these points.",
        "Responsibilities are named for each of the steps.",
        "No other deadlines are mentioned.",
        "The tone of the document is factual throughout.",
        "Figures are quoted as given in the source.",
        "Open questions are to be taken up at the next occasion.",
        "The document names no further costs.",
        "Readers who need the details will find them in the full text.",
    ),
    "code": (
        "I kept the standard library only, so there is nothing to install.",
        "A unit test with an empty input and one with ties would be a good start.",
        "The names follow the wording of your request.",
        "If the data grow large, measure before you optimise further.",
        "Type hints document what goes in and what comes out.",
        "The docstring states the promise in one line.",
        "An input of the wrong type raises an error instead of passing silently.",
        "For a different order, change the key and leave the rest as it is.",
    ),
    "open": (
        "The terms are used here as in your message.",
        "Where several readings are possible, the usual one was chosen.",
        "A short example often makes this clearer than a definition.",
        "The details can vary with the circumstances you describe.",
        "What counts in practice is the first of these points.",
        "The other aspects follow from it.",
        "Reliable sources agree on the main line.",
        "Exceptions exist, but they are rare.",
    ),
}

EMPTY_TALK: tuple[str, ...] = (
    "There are many things to consider in such a case.",
    "It is important to think about what is important.",
    "Every situation is different in its own way.",
    "In general one should see how it goes.",
    "Others have had similar or different experiences.",
    "This topic can be looked at from several angles.",
    "Various factors may or may not play a role.",
    "As always, it depends on a number of conditions.",
)
