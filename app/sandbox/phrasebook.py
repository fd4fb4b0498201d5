"""The texts of the sandbox's production prompts: what people ask, by route, with slots to fill.

Written for this project; every name, number and company is invented. A slot such as `{order}` or
`{date2}` is filled from the bank of its name without digits. A phrasing is recognised again in
any text by the words around its slots, so each must hold a run of words that no other one has.
"""

from dataclasses import dataclass, field
from typing import Literal

FieldForm = Literal["text", "date", "amount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of request and what a right answer to it holds.

    Attributes:
        route: The product feature that sends it.
        name: Unique among all kinds.
        phrasings: Texts with slots; each one alone is a complete request.
        facts: Sentences of a right prose answer, with the same slots.
        fields: For extraction: key, slot and form of every field.
        labels: For classification: what may be answered.
        label: For classification: the right answer.
        code: For code: a right, a subtly wrong and an evasive solution.
        follow_ups: Later turns of the same conversation, with the same slots.
    """

    route: str
    name: str
    phrasings: tuple[str, ...]
    facts: tuple[str, ...] = ()
    fields: tuple[tuple[str, str, FieldForm], ...] = ()
    labels: tuple[str, ...] = ()
    label: str | None = None
    code: tuple[str, str, str] | None = None
    follow_ups: tuple[str, ...] = field(default=())


SYSTEMS = {
    "support": (
        "You are the support assistant of Larkmere Home, an online shop for household goods. Be "
        "friendly and exact, name the order, and say what happens next. Never promise what the "
        "policy does not allow: refunds within 30 days, replacements for damage on arrival."
    ),
    "extract": (
        "You turn business texts into JSON for an accounting system. Return one JSON object and "
        "nothing else. Dates are ISO 8601, amounts are numbers without separators."
    ),
    "classify": "You route incoming messages. Answer with exactly one label from the list.",
    "summarise": (
        "You summarise documents for busy managers. Keep names, numbers and deadlines; leave out "
        "opinion. Five sentences at most."
    ),
    "code": (
        "You help engineers with Python. Give a complete function with type hints, then explain "
        "the choices in a few sentences."
    ),
}

GREETINGS = (
    "",
    "Hello, ",
    "Hi there, ",
    "Good morning. ",
    "Dear team, ",
    "Hey, ",
    "Good evening, I hope you can help. ",
)
SIGN_OFFS = (
    "",
    " Thanks, {person}",
    "\n\nKind regards\n{person}",
    "\n\n{person}\n{city}",
    " Please answer by e-mail.",
    "\n\nSent from my phone",
    " Many thanks in advance!",
)

TANGLES = {
    "support": (
        (
            "To make it harder, the parcel was split in two, one half went to a neighbour who has "
            "moved, and the card it was paid with has since been replaced; please settle all "
            "three."
        ),
        (
            "There is more to it: a colleague of yours already promised something else in "
            "writing, the voucher on it has expired, and half of it was a gift; please sort out "
            "every part."
        ),
    ),
    "extract": (
        (
            "Mind that the scan is poor, two figures were corrected by hand, and the sender "
            "writes on behalf of another party; only what finally holds counts."
        ),
        (
            "Note that the text repeats an older version of itself with other values further up; "
            "the version to keep is the one that was confirmed last."
        ),
    ),
    "classify": (
        (
            "The writer mixes several matters, quotes an older thread and is being ironic in "
            "places; go by what they finally want."
        ),
        (
            "Parts of it were translated by machine and the first sentence is beside the point; "
            "judge by what is needed now."
        ),
    ),
    "summarise": (
        (
            "Two of the speakers contradict each other and a later correction overrides an "
            "earlier figure; the summary must follow the correction and say who disagreed."
        ),
        (
            "The appendix changes one of the deadlines and withdraws a recommendation; take that "
            "into account without mentioning the appendix itself."
        ),
    ),
    "code": (
        (
            "It also has to run in constant memory on a stream that may repeat or drop elements, "
            "stay stable for equal keys, and be safe to call from several threads."
        ),
        (
            "In addition it must accept generators, keep working when the input changes while it "
            "runs, and report progress without slowing down."
        ),
    ),
}

BANKS: dict[str, tuple[str, ...]] = {
    "first": (
        "Amara", "Bruno", "Celia", "Dario", "Elif", "Farah", "Goran", "Hanna", "Imre", "Jonas",
        "Kaito", "Leila", "Mirko", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Samir", "Tilda",
        "Umar", "Vera", "Wanda", "Xenia", "Yusuf", "Zora", "Anselm", "Bettina", "Cormac", "Delia",
        "Emeka", "Frida", "Gwen", "Hugo", "Ines", "Jarek", "Katya", "Lorenzo", "Maeve", "Nils",
    ),
    "last": (
        "Abara", "Brandt", "Castellan", "Dimov", "Eriksen", "Fontaine", "Grantham", "Haddad",
        "Ivers", "Jansen", "Kowal", "Lindqvist", "Marchetti", "Novak", "Okafor", "Petrov",
        "Quist", "Rahman", "Sorensen", "Tanaka", "Ulrich", "Varga", "Whitlock", "Yilmaz", "Zeman",
        "Ashworth", "Bellamy", "Corrigan", "Drummond", "Ellery", "Fairclough", "Holloway",
    ),
    "city": (
        "Aldmoor", "Brightwater", "Carrowby", "Dunhaven", "Eastmere", "Falkenau", "Grenport",
        "Harrowgate Mills", "Inverlea", "Jasperton", "Kestrel Bay", "Lowenthal", "Marlstone",
        "Norwick", "Oxbridge Vale", "Pinehurst", "Queensferry", "Rothwell", "Sandhaven",
        "Thornbury", "Ulverston", "Vallmora", "Westerfield", "Yarrow", "Zellenberg",
    ),
    "street": (
        "Alder Lane", "Beacon Street", "Chapel Road", "Drovers Way", "Elm Terrace", "Foundry Row",
        "Garden Mews", "Harbour View", "Iron Bridge Road", "Juniper Close", "Kiln Lane",
        "Lantern Street", "Mill Hill", "North Quay", "Orchard Rise", "Priory Walk",
    ),
    "item": (
        "ceramic kettle", "standing lamp", "oak side table", "wool blanket", "espresso machine",
        "cast-iron pan", "garden bench", "bread maker", "air purifier", "folding desk",
        "knife set", "linen duvet cover", "robot vacuum", "wall clock", "bathroom scale",
        "laundry basket", "steam iron", "spice rack", "picture frame set", "bookshelf",
        "electric blanket", "toaster", "water filter jug", "door mat", "mirror cabinet",
        "plant stand", "stand mixer", "travel mug", "desk fan", "rain barrel", "shoe rack",
        "curtain rail", "soda maker", "cheese board", "bar stool", "bedside lamp", "step ladder",
    ),
    "company": (
        "Arbor Freight", "Bluestone Dental", "Cobalt Works", "Delphi Catering", "Everline Press",
        "Foxglove Hotels", "Granite Peak Tools", "Highmoor Dairy", "Ironwood Legal",
        "Juniper Analytics", "Kingfisher Marine", "Lumen Optics", "Meridian Foods",
        "Northlight Studio", "Orchid Pharma", "Pillar Insurance", "Quarry Lane Motors",
        "Redwood Schools", "Saltmarsh Energy", "Tidewater Logistics", "Umber Textiles",
        "Vantage Labs", "Willow Clinics", "Yonder Travel", "Zephyr Bikes",
    ),
    "system": (
        "Atlas Planner", "Beacon CRM", "Cirrus Mail", "Dockyard", "Ember Payroll", "Fieldnote",
        "Gridline", "Harvest Time", "Inkwell", "Junction VPN", "Keystone Files", "Ledgerly",
        "Mosaic Boards", "Nimbus Drive", "Outpost Chat", "Pinboard", "Quill Editor", "Relay Desk",
    ),
    "month": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ),
    "currency": ("EUR", "GBP", "USD", "CHF", "SEK", "CAD"),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "product": (
        "the mobile app", "the loyalty scheme", "the spring catalogue",
        "the click-and-collect pilot",
        "the new checkout", "the returns portal", "the gift card programme", "the spare-parts shop",
        "the delivery tracker", "the outlet store", "the trade account", "the repair service",
    ),
    "cause": (
        "an expired certificate", "a full disk", "a mistyped firewall rule",
        "a slow database query",
        "an untested upgrade", "a failed power supply", "a loop in the job queue",
        "a wrong time zone setting", "a lost network link", "a missing index",
    ),
    "field": (
        "price", "created_at", "customer_id", "score", "weight", "priority", "region", "quantity",
        "due_date", "version", "size", "rank",
    ),
    "verb": ("collect", "compute", "find", "fetch", "select", "derive", "resolve", "build"),
    "noun": (
        "orders", "invoices", "readings", "sessions", "tickets", "shipments", "entries", "records",
        "measurements", "payments", "reviews", "visits", "events", "samples",
    ),
}  # fmt: skip

_SUPPORT = (
    Kind(
        route="support",
        name="late_order",
        phrasings=(
            (
                "my order {order} with the {item} was due on {date} and there is still no sign of "
                "it. Where is it now, and when will I get it?"
            ),
            (
                "I am still waiting for the {item} I bought under order {order}. The promised "
                "delivery day, {date}, has passed and the tracking page has not moved since."
            ),
            (
                "could you look into order {order}? It contains the {item}, it should have "
                "reached me in {city} by {date}, and nobody has rung the bell so far."
            ),
        ),
        facts=(
            "Order {order} with the {item} left our warehouse but missed its delivery day, {date}.",
            "The carrier now expects to hand over the {item} within three working days.",
            "If order {order} has not reached you by then, we send a replacement at no cost.",
            "You may also choose a full refund of the {item}, because {date} has passed.",
            "You will get an e-mail with a new tracking link for order {order} today.",
        ),
        follow_ups=(
            (
                "Thank you. Suppose order {order} still is not here after those three days: do I "
                "get the refund by itself, or must I ask you for it once more?"
            ),
            (
                "All right. I am away for a week after {date}; can order {order} with the {item} "
                "be held at the depot until I return?"
            ),
        ),
    ),
    Kind(
        route="support",
        name="damaged_item",
        phrasings=(
            (
                "the {item} from order {order} arrived on {date} with a crack right across it. "
                "The box was intact, so I suppose it left you like that. What now?"
            ),
            (
                "I unpacked the {item} today (order {order}, delivered {date}) and one corner is "
                "broken off. I would like a new one rather than my money."
            ),
            (
                "order {order} came on {date}, but the {item} in it is dented and makes a "
                "rattling noise. Do I have to send it back before you replace it?"
            ),
        ),
        facts=(
            "We are sorry that the {item} from order {order} was damaged on arrival.",
            "Because you wrote within 30 days of {date}, you are entitled to a free replacement.",
            "A new {item} leaves our warehouse tomorrow; you need not return the broken one first.",
            "Please send two photographs of the damage and quote order {order}.",
            "If the {item} is out of stock we refund the full price instead.",
        ),
        follow_ups=(
            (
                "I have sent the photographs for order {order}. Will the replacement {item} come "
                "by the same carrier, and may I keep the packaging of the first one?"
            ),
        ),
    ),
    Kind(
        route="support",
        name="double_charge",
        phrasings=(
            (
                "my card statement shows the payment for order {order} twice, {amount} {currency} "
                "on {date} and the same sum a day later. I only bought one {item}."
            ),
            (
                "you have taken {amount} {currency} from my account two times for order {order}. "
                "The first booking is from {date}. Please return the second one."
            ),
        ),
        facts=(
            "We see two bookings of {amount} {currency} for order {order}, the first on {date}.",
            "The second one is a reservation that was never captured.",
            "Your bank releases the {amount} {currency} within five working days.",
            "Only one payment for order {order} stays on your account.",
            "If the amount is still missing after that, write to us and we refund it by hand.",
        ),
        follow_ups=(
            (
                "Five working days have gone by since {date} and the second {amount} {currency} "
                "for order {order} has not come back. How do I claim it from you now?"
            ),
        ),
    ),
    Kind(
        route="support",
        name="locked_account",
        phrasings=(
            (
                "I cannot sign in any more. The page says that the account {email} was locked on "
                "{date}, and the reset mail never comes. I need the invoice for order {order}."
            ),
            (
                "since {date} your site refuses my password for {email}. I tried three times and "
                "now it wants a code from a phone I no longer have."
            ),
        ),
        facts=(
            "The account {email} was locked automatically on {date} after several failed attempts.",
            "It opens again by itself after 24 hours, and no data of it was lost.",
            "We have sent a fresh reset link to {email}; it is valid for one hour.",
            "If your phone number has changed, we can remove it once you confirm an old order.",
            "Please check the spam folder of {email} before you ask for another link.",
        ),
    ),
    Kind(
        route="support",
        name="address_change",
        phrasings=(
            (
                "I have moved. Can order {order} with the {item} still go to {number} {street} in "
                "{city} instead of the old address? It is meant to ship on {date}."
            ),
            (
                "please redirect order {order} ({item}, shipping {date}) to my new home, {number} "
                "{street}, {city}; the neighbours at the old one will not take parcels."
            ),
        ),
        facts=(
            "Order {order} has not left the warehouse yet, so its address can still be changed.",
            "The {item} will go to {number} {street}, {city}.",
            "The shipping day, {date}, stays the same.",
            "You will receive a confirmation that names {street} within the hour.",
            "Please update the address in your profile as well, for later orders.",
        ),
    ),
    Kind(
        route="support",
        name="cancel_order",
        phrasings=(
            (
                "please cancel order {order}. I ordered the {item} on {date} by mistake and it "
                "has not been sent yet. How long until I see the {amount} {currency} again?"
            ),
            (
                "I no longer want the {item} of order {order}, placed on {date}. Is it too late "
                "to stop it, and do I get all of the {amount} {currency} back?"
            ),
        ),
        facts=(
            "Order {order} from {date} has been cancelled before it was shipped.",
            "The full {amount} {currency} goes back to the means of payment you used.",
            "Banks usually need three to five working days to show it.",
            "There is no fee for cancelling the {item} at this stage.",
            "You will find the cancellation of order {order} in your account at once.",
        ),
        follow_ups=(
            (
                "Wait, my partner wants the {item} after all. Can the cancellation of order "
                "{order} be undone at the same {amount} {currency}, or do we have to buy it anew?"
            ),
        ),
    ),
    Kind(
        route="support",
        name="warranty",
        phrasings=(
            (
                "the {item} I bought on {date} (order {order}) has stopped working. Is that still "
                "under warranty, and do you repair it or do I get another?"
            ),
            (
                "after a good year the {item} from order {order} gave up. It was bought on "
                "{date}. What do you need from me to handle this as a warranty case?"
            ),
        ),
        facts=(
            "The {item} carries a two-year warranty that began on {date}.",
            "Order {order} serves as proof of purchase; you need no paper receipt.",
            "We send a prepaid label, collect the {item} and examine it within ten days.",
            "A repairable fault is repaired free of charge, otherwise you get a new {item}.",
            "Damage by water or by a fall is not covered by the warranty.",
        ),
        follow_ups=(
            (
                "Good. While the {item} of order {order} is being examined, is there a device on "
                "loan, and does the warranty that began on {date} grow longer by that time?"
            ),
        ),
    ),
)

_EXTRACT = (
    Kind(
        route="extract",
        name="invoice",
        phrasings=(
            (
                "Extract invoice_number, customer, due_date, total and currency as JSON from this "
                "letter:\n\nDear {person}, please find enclosed invoice {invoice} to {company} "
                "for the services of last month. The sum of {amount} {currency} falls due on "
                "{date}. With thanks for your custom, the {city} accounts team."
            ),
            (
                "Invoice {invoice}\nBilled to: {company}, {number} {street}, {city}\nAmount "
                "payable: {amount} {currency}\nTo be settled no later than {date}.\n\nReturn the "
                "invoice_number, customer, due_date, total and currency of the above as JSON."
            ),
        ),
        fields=(
            ("invoice_number", "invoice", "text"),
            ("customer", "company", "text"),
            ("due_date", "date", "date"),
            ("total", "amount", "amount"),
            ("currency", "currency", "text"),
        ),
    ),
    Kind(
        route="extract",
        name="booking",
        phrasings=(
            (
                "From the message below give me JSON with guest, hotel_city, arrival, departure "
                "and reference.\n\nHello, this is {person}. I should like to confirm my stay in "
                "{city} from {date} until {date2}; your colleague gave me the reference {order} "
                "on the phone."
            ),
            (
                "Note from the front desk: {person} rang, booked under {order}, arrives in {city} "
                "on {date} and leaves on {date2}.\n\nMake that JSON with the keys guest, "
                "hotel_city, arrival, departure, reference."
            ),
        ),
        fields=(
            ("guest", "person", "text"),
            ("hotel_city", "city", "text"),
            ("arrival", "date", "date"),
            ("departure", "date2", "date"),
            ("reference", "order", "text"),
        ),
    ),
    Kind(
        route="extract",
        name="incident",
        phrasings=(
            (
                "Fill the fields system, owner, cause, started_on and ticket as JSON.\n\nOn "
                "{date} {system} stopped answering; {person} took the ticket {invoice} and traced "
                "the outage to {cause} before noon."
            ),
            (
                "Ticket {invoice}, opened {date}, assigned to {person}, says {system} is down, "
                "and the post-mortem names {cause} as the reason.\n\nPlease return system, owner, "
                "cause, started_on and ticket as a JSON object."
            ),
        ),
        fields=(
            ("system", "system", "text"),
            ("owner", "person", "text"),
            ("cause", "cause", "text"),
            ("started_on", "date", "date"),
            ("ticket", "invoice", "text"),
        ),
    ),
    Kind(
        route="extract",
        name="contract",
        phrasings=(
            (
                "Read the clause and answer with JSON (supplier, client, annual_fee, starts_on, "
                "notice_city).\n\nThis agreement between {company}, the supplier, and {company2}, "
                "the client, takes effect on {date}. The yearly fee is {amount} {currency}. "
                "Notices are to be served at the {city} office."
            ),
            (
                "Passage of a contract: {company} will supply {company2} as of {date} against "
                "{amount} {currency} a year; letters of notice go to {city}.\n\nGive supplier, "
                "client, annual_fee, "
                "starts_on and notice_city as JSON, please."
            ),
        ),
        fields=(
            ("supplier", "company", "text"),
            ("client", "company2", "text"),
            ("annual_fee", "amount", "amount"),
            ("starts_on", "date", "date"),
            ("notice_city", "city", "text"),
        ),
    ),
)

_INBOX = (
    "billing_question",
    "delivery_problem",
    "technical_fault",
    "account_access",
    "cancel_request",
    "customer_praise",
)
_DESK = ("hardware_issue", "network_issue", "access_request", "software_bug", "data_loss")

_MESSAGES = {
    "billing_question": (
        "why does my bill for {date} show {amount} {currency} when the {item} was on offer?",
        "the discount on order {order} is missing from what you charged me, {amount} {currency}.",
    ),
    "delivery_problem": (
        "the driver left the {item} of order {order} in the rain, somewhere in {city}.",
        "tracking has said out for delivery since {date} and no {item} has come to my door.",
    ),
    "technical_fault": (
        "the {item} I received blinks red and shuts down after a minute, even after a reset.",
        "your app crashes on {product} each time I open the screen for order {order}.",
    ),
    "account_access": (
        "the login for {email} tells me that I do not exist, though I shopped on {date}.",
        "no code reaches my phone, so the door to my profile, {email}, stays shut.",
    ),
    "cancel_request": (
        "stop order {order} at once, I found the {item} for less in {city}.",
        "I want out of the subscription that renews on {date}, please end it.",
    ),
    "customer_praise": (
        "the {item} is lovely and {person} on your hotline was a star, well done.",
        "never had a parcel packed with such care as order {order}; do pass it on.",
    ),
    "hardware_issue": (
        "the screen of my laptop in {city} stays black since {date}, the fan still turns.",
        "keys Q to P on the keyboard at desk {number} do nothing after a spilled coffee.",
    ),
    "network_issue": (
        "nobody on the {weekday} shift in {city} can reach {system}, pings are lost half way.",
        "the wireless drops every few minutes on floor {number}, cable works fine.",
    ),
    "access_request": (
        "{person} joins my team on {date} and should be able to read {system}.",
        "please give me write rights in {system} for the audit of {company}.",
    ),
    "software_bug": (
        "{system} rounds {amount} to whole numbers when I export a report.",
        "after the update of {date} the search in {system} returns each row twice.",
    ),
    "data_loss": (
        "my folder in {system} was full on {weekday} and is empty now, no trash either.",
        "a sync on {date} overwrote the contract of {company} with a blank file.",
    ),
}

_CLASSIFY = tuple(
    Kind(
        route="classify",
        name=label,
        labels=labels,
        label=label,
        phrasings=tuple(
            wrapper.format(labels=", ".join(labels), message=message)
            for message in _MESSAGES[label]
            for wrapper in wrappers
        ),
    )
    for labels, wrappers in (
        (
            _INBOX,
            (
                (
                    "Which of these labels fits the message: {labels}? Answer with the label "
                    "alone.\n\nMessage: {message}"
                ),
                "Labels: {labels}\nCustomer wrote: {message}\nLabel:",
            ),
        ),
        (
            _DESK,
            ("Assign one queue out of {labels} to this ticket, name only.\n\nTicket: {message}",),
        ),
    )
    for label in labels
)

_SUMMARISE = (
    Kind(
        route="summarise",
        name="meeting",
        phrasings=(
            (
                "Summarise these minutes.\n\nThe steering group met on {date} in {city}. {person} "
                "reported that {product} is two weeks behind and costs {amount} {currency} more "
                "than planned. {person2} asked whether {company} could take over the tests. It "
                "was agreed to move the launch to {date2}, to ask {company} for an offer, and to "
                "freeze all other changes until then. The next meeting is on a {weekday}. Coffee "
                "was cold again."
            ),
        ),
        facts=(
            "The group met on {date} in {city}.",
            "{person} reported that {product} is two weeks late.",
            "It exceeds its budget by {amount} {currency}.",
            "The launch moves to {date2}, and other changes are frozen until then.",
            "{company} is to make an offer for the tests, as {person2} proposed.",
        ),
    ),
    Kind(
        route="summarise",
        name="outage_report",
        phrasings=(
            (
                "Give management a short summary of this report.\n\nOn {date} at ten past nine "
                "{system} became unavailable for all staff in {city}. First checks pointed at the "
                "network, which turned out to be sound. At noon {person} found the reason: "
                "{cause}. Service was back at half past one. {number} orders were delayed, none "
                "was lost, and the damage is put at {amount} {currency}. {company} will add an "
                "alarm by {date2}."
            ),
        ),
        facts=(
            "{system} was unavailable in {city} on {date} from 9:10 to 13:30.",
            "The reason was {cause}, found by {person}.",
            "{number} orders were delayed and none was lost.",
            "The damage is estimated at {amount} {currency}.",
            "{company} adds an alarm by {date2}.",
        ),
    ),
    Kind(
        route="summarise",
        name="policy_change",
        phrasings=(
            (
                "What does a manager need to know of this notice? Keep it brief.\n\nFrom {date} "
                "on, expenses above {amount} {currency} need two signatures, one of them from "
                "{person} in {city}. Receipts go into {system} within {number} days; paper is no "
                "longer accepted. Trips booked through {company} are exempt until {date2}. "
                "Questions are answered every {weekday} after lunch."
            ),
        ),
        facts=(
            "From {date}, expenses above {amount} {currency} need two signatures.",
            "One of the two must come from {person} in {city}.",
            "Receipts are filed in {system} within {number} days, without paper.",
            "Trips booked through {company} are exempt until {date2}.",
            "Questions are answered on {weekday} afternoons.",
        ),
    ),
    Kind(
        route="summarise",
        name="customer_study",
        phrasings=(
            (
                "Condense the following study for the board.\n\n{company} interviewed {number} "
                "customers in {city} about {product} between {date} and {date2}. Most found it "
                "easy to learn, yet one in three gave up at the payment step. {person}, who led "
                "the study, puts the lost sales at {amount} {currency} a month and recommends a "
                "guest checkout. A minority asked for a darker design."
            ),
        ),
        facts=(
            "{company} interviewed {number} customers in {city} about {product}.",
            "The interviews took place between {date} and {date2}.",
            "Most found it easy, but one in three gave up at the payment step.",
            "Lost sales are put at {amount} {currency} a month.",
            "{person} recommends a guest checkout.",
        ),
    ),
)

_TOP_K = (
    '''\
import heapq
from typing import Any


def {function}(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the {number} rows with the largest {field}."""
    return heapq.nlargest(
        {number}, rows, key=lambda row: row.get("{field}", float("-inf"))
    )
''',
    """\
def {function}(rows):
    rows.sort(key=lambda row: row.get("{field}", 0))
    return rows[:{number}]
""",
    """\
def {function}(rows):
    # sort the rows here
    return rows
""",
)
_GROUP_SUM = (
    '''\
from collections import defaultdict
from typing import Any


def {function}(records: list[dict[str, Any]]) -> dict[Any, float]:
    """Total the amounts by {field}."""
    totals: dict[Any, float] = defaultdict(float)
    for record in records:
        totals[record["{field}"]] += record.get("amount", 0.0)
    return dict(sorted(totals.items()))
''',
    """\
def {function}(records):
    totals = {}
    for record in records:
        totals[record["{field}"]] = record["amount"]
    return totals
""",
    """\
def {function}(records):
    return sum(records)
""",
)
_CHUNKS = (
    '''\
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def {function}(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists of up to {number}."""
    source = iter(items)
    while batch := list(islice(source, {number})):
        yield batch
''',
    """\
def {function}(items):
    items = list(items)
    for i in range(0, len(items) - {number}, {number}):
        yield items[i:i + {number}]
""",
    """\
def {function}(items):
    yield items
""",
)
_RETRY = (
    '''\
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def {function}(call: Callable[[], T]) -> T:
    """Call up to {number} times with growing pauses."""
    for attempt in range({number}):
        try:
            return call()
        except OSError:
            if attempt == {number} - 1:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")
''',
    """\
import time


def {function}(call):
    while True:
        try:
            return call()
        except:
            time.sleep(0.5)
""",
    """\
def {function}(call):
    return call()
""",
)
_WINDOW_MEAN = (
    '''\
from collections import deque
from collections.abc import Iterable, Iterator


def {function}(values: Iterable[float]) -> Iterator[float]:
    """Yield the mean of each window of {number} values."""
    window: deque[float] = deque()
    total = 0.0
    for value in values:
        window.append(value)
        total += value
        if len(window) > {number}:
            total -= window.popleft()
        if len(window) == {number}:
            yield total / {number}
''',
    """\
def {function}(values):
    for i in range(len(values)):
        yield sum(values[i:i + {number}]) / {number}
""",
    """\
def {function}(values):
    return sum(values) / len(values)
""",
)
_CODE = (
    Kind(
        route="code",
        name="top_k",
        phrasings=(
            (
                "Write a Python function {function} that takes a list of dictionaries and returns "
                "the {number} ones with the largest value of {field}, largest first. Missing "
                "values come last."
            ),
            (
                "I need {function}: given dictionaries, keep the {number} with the highest "
                "{field} in falling order, treating an absent one as the lowest."
            ),
        ),
        facts=(
            "{function} orders by {field} in falling order and keeps the first {number}.",
            "A dictionary without {field} counts as minus infinity, so it comes last.",
            "The input list is not changed.",
            "Its running time is O(n log k) thanks to the heap.",
        ),
        code=_TOP_K,
    ),
    Kind(
        route="code",
        name="group_sum",
        phrasings=(
            (
                "Please write {function}, which adds up the amount of every record per {field} "
                "and returns a dictionary sorted by key. Records are plain dictionaries."
            ),
            (
                "How would you write {function} in Python so that it totals the amounts of a list "
                "of records by {field}, keys in order?"
            ),
        ),
        facts=(
            "{function} totals the amounts per {field}.",
            "The result is a dictionary whose keys are in ascending order.",
            "A record without an amount adds nothing.",
            "It walks over the records once.",
        ),
        code=_GROUP_SUM,
    ),
    Kind(
        route="code",
        name="chunks",
        phrasings=(
            (
                "Can you give me a Python generator {function} that yields lists of up to "
                "{number} {noun} from any iterable, the last one possibly shorter?"
            ),
            (
                "Split an iterable of {noun} into batches of {number} with a generator called "
                "{function}; it must not load everything into memory."
            ),
        ),
        facts=(
            "{function} yields lists of at most {number} {noun}.",
            "The last list may be shorter, and an empty input yields nothing.",
            "It never holds more than one batch in memory.",
            "It works on any iterable, not only on lists.",
        ),
        code=_CHUNKS,
    ),
    Kind(
        route="code",
        name="retry",
        phrasings=(
            (
                "Write a helper {function}(call) in Python that tries call() up to {number} times "
                "and waits twice as long after each failure, beginning with half a second."
            ),
            (
                "I want {function}: run a callable, and when it raises OSError repeat it with "
                "exponential back-off, {number} attempts in all, then give up."
            ),
        ),
        facts=(
            "{function} makes at most {number} attempts.",
            "The pause starts at half a second and doubles each time.",
            "Only OSError is caught; other errors are bugs and propagate.",
            "After the last attempt the original error is raised.",
        ),
        code=_RETRY,
    ),
    Kind(
        route="code",
        name="window_mean",
        phrasings=(
            (
                "I have daily {noun} as floats. Write {function}, a moving mean over {number} "
                "values that yields one mean per full window."
            ),
            (
                "What is a clean Python implementation of {function}, the sliding average of "
                "{noun} with a window of {number}, without recomputing the sum each time?"
            ),
        ),
        facts=(
            "{function} yields a mean for every full window of {number} {noun}.",
            "It keeps a running sum, so each step costs O(1).",
            "Fewer than {number} values yield nothing.",
            "Rounding errors of the running sum stay small for inputs of this size.",
        ),
        code=_WINDOW_MEAN,
    ),
)

KINDS: tuple[Kind, ...] = _SUPPORT + _EXTRACT + _CLASSIFY + _SUMMARISE + _CODE
ROUTES: tuple[str, ...] = ("support", "extract", "classify", "summarise", "code")
