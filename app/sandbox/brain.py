"""The models' minds: a World and a request give an Answer, the same one every time.

True quality: a latent normal number, shared in part by all models (the prompt's difficulty), in
part fixed for model and prompt, and in part new every week, is turned into a quality step so that
the mean over prompts is the model's mean for that route and hardness.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.sandbox.dialogue import Answer, Ask, Tool, Turn
from app.sandbox.draws import fingerprint, level, normal, share, stream, uniform
from app.sandbox.judging import Judged, Matter, find_matter, is_grading, is_pairwise
from app.sandbox.replies import CHARS_PER_TOKEN, steps, write
from app.sandbox.tasks import Task, normalise
from app.sandbox.toolcalls import choose_tool, fill_tool
from app.sandbox.vectors import vector_of
from app.sandbox.verdicts import Opinion, Preference, in_words, structured
from app.sandbox.world import JudgeSpec, Misbehaviour, ModelSpec, World

HARD_SHARE = 0.10
_OVERHEAD_TOKENS = 8

Repeats = Callable[[str], int]


def _first(_: str) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Brain:
    """Answers as the models of a World do; pure, so that every process agrees.

    Attributes:
        world: The world it lives in.
    """

    world: World

    def answer(
        self, ask: Ask, *, week: int, spec: ModelSpec | None = None, repeats: Repeats = _first
    ) -> Answer:
        """What the model replies in that week.

        `repeats` tells, by fingerprint, how often a matter was graded before in that week: a
        grading that is asked for again comes with fresh noise.
        """
        spec = spec or self.world.spec(ask.model, week)
        if ask.wants_vectors:
            text = json.dumps([vector_of(turn.text) for turn in ask.turns])
            measured = self._measured(Answer(text=text), ask, spec, week)
            return replace(measured, output_tokens=0, thinking_tokens=0)
        if is_grading(ask):
            answer = self._grading(ask, spec, week, repeats)
        else:
            answer = self._reply(ask, spec, week)
        return self._measured(_limited(answer, ask), ask, spec, week)

    def quality(self, ask: Ask, *, week: int) -> float:
        """The true quality 0..1 of the model's reply to that prompt in that week."""
        task = ask.task
        return self._level(ask, self.world.spec(ask.model, week), week) / steps(task)

    def _level(self, ask: Ask, spec: ModelSpec, week: int) -> int:
        world, case = self.world, ask.case
        shared, stable = world.prompt_correlation, world.model_stability
        latent = (
            math.sqrt(shared) * normal(world.seed, "prompt", case)
            + math.sqrt(stable) * normal(world.seed, "model", ask.model, case)
            + math.sqrt(max(1.0 - shared - stable, 0.0))
            * normal(world.seed, "week", ask.model, case, week)
        )
        return level(share(latent), mean_quality(spec, ask.task), spec.sd, steps(ask.task))

    def _reply(self, ask: Ask, spec: ModelSpec, week: int) -> Answer:
        task = ask.task
        grade = self._level(ask, spec, week)
        quality = grade / steps(task)
        rng = stream(self.world.seed, "text", ask.model, ask.case, week)
        tool = choose_tool(ask)
        if tool is not None:
            arguments = fill_tool(tool, ask.last, is_good=quality >= 0.5)
            return Answer(
                tool=tool.name, tool_input=json.dumps(arguments), stop_reason="tool_use",
                quality=quality,
            )  # fmt: skip
        factor = math.exp(spec.tokens_sigma * normal(self.world.seed, "length", ask.case))
        text = write(
            task, grade, rng=rng, family=spec.family, tokens=max(1, round(spec.tokens * factor))
        )
        if (ask.wants_json or ask.schema is not None) and not task.kind.fields:
            text = _as_json(ask, text)
        return Answer(text=text, quality=quality)

    def _grading(self, ask: Ask, spec: ModelSpec, week: int, repeats: Repeats) -> Answer:
        judge = spec.judge
        matter = find_matter(ask, look_for_attacks=judge.gullible)
        identity = _identity(ask, matter)
        draw = (self.world.seed, ask.model, identity, week, repeats(identity))
        opinion = replace(opinion_of(judge, matter, draw), misbehaviour=_misbehaviour(judge, draw))
        answer = Answer(judged=identity, grade=opinion.label)
        tool = _forced(ask)
        if tool is not None:
            return replace(
                answer, tool=tool.name, tool_input=structured(opinion, tool.schema),
                stop_reason="tool_use",
            )  # fmt: skip
        if ask.schema is not None:
            text = structured(opinion, ask.schema)
            return replace(answer, text="" if opinion.misbehaviour == "empty" else text)
        return replace(answer, text=in_words(opinion, ask))

    def _measured(self, answer: Answer, ask: Ask, spec: ModelSpec, week: int) -> Answer:
        """The answer with its token counts and times."""
        total = count_tokens(ask)
        cached = round(total * spec.cache_read_share)
        seed = self.world.seed
        thinking = 0
        if spec.thinking_tokens:
            spread = math.exp(spec.tokens_sigma * normal(seed, "think", ask.model, ask.case))
            thinking = max(1, round(spec.thinking_tokens * spread))
        visible = max(1, math.ceil(len(answer.text + answer.tool_input) / CHARS_PER_TOKEN))
        pace = 1.0
        if spec.latency_sigma:
            pace = math.exp(spec.latency_sigma * normal(seed, "pace", ask.model, ask.case, week))
        ttft_s = spec.ttft_ms * pace / 1000.0
        return replace(
            answer,
            input_tokens=total - cached,
            cache_read_tokens=cached,
            thinking_tokens=thinking,
            output_tokens=visible + thinking,
            ttft_s=ttft_s,
            latency_s=ttft_s + spec.per_token_ms * pace * (visible + thinking) / 1000.0,
        )


def mean_quality(spec: ModelSpec, task: Task) -> float:
    """The model's mean true quality on tasks like this one.

    Tangled prompts lie `hard_penalty` below plain ones (less near 0 and 1), so arranged that the
    mean over traffic with the usual tenth of tangled prompts is the route's mean.
    """
    mean = spec.quality_by_route.get(task.route, spec.quality)
    if task.route == "open":
        return mean
    penalty = spec.hard_penalty * min(1.0, 8.0 * mean * (1.0 - mean))
    offset = HARD_SHARE - 1.0 if task.hard else HARD_SHARE
    return min(max(mean + penalty * offset, 0.0), 1.0)


def true_quality(
    world: World, model: str, prompt: str | tuple[Turn, ...], *, week: int, system: str = ""
) -> float:
    """The true quality 0..1 of what the model replies to that prompt in that week."""
    turns = (Turn(role="user", text=prompt),) if isinstance(prompt, str) else prompt
    ask = Ask(model=model, system=system, turns=turns)
    return Brain(world=world).quality(ask, week=week)


def opinion_of(judge: JudgeSpec, matter: Matter, draw: tuple[object, ...]) -> Opinion:
    """What a judge of this temper says of the replies; equal draws, equal opinions."""
    qualities = [_perceived(judge, reply, matter) for reply in matter.replies]
    if len(qualities) == 2:
        return Opinion(preference=_preference(judge, qualities, draw))
    if uniform("lapse", *draw) < judge.lapse_rate:
        return Opinion(grade=1 + int(uniform("lapse to", *draw) * 5))
    known = _known_grade(judge, matter.replies[0])
    if known is not None:
        return Opinion(grade=known)
    place = share(normal("grade", *draw))
    return Opinion(grade=1 + level(place, qualities[0], judge.noise_sd / 4.0, 4))


def count_tokens(ask: Ask) -> int:
    """The sandbox's tokens of a request: one per four characters and a few per message."""
    tools = sum(len(json.dumps(dict(tool.schema))) + len(tool.name) for tool in ask.tools)
    chars = len(ask.prompt) + tools
    return math.ceil(chars / CHARS_PER_TOKEN) + _OVERHEAD_TOKENS * max(len(ask.turns), 1)


def _perceived(judge: JudgeSpec, reply: Judged, matter: Matter) -> float:
    """The reply's quality as this judge sees it, before noise."""
    if judge.gullible and matter.is_attacked and (reply.is_attack or len(matter.replies) == 1):
        return 1.0
    quality = reply.quality + judge.shift
    quality += judge.verbosity_bias * (reply.words - 100) / 100.0
    if judge.prefers_family is not None and reply.family == judge.prefers_family:
        quality += judge.preference
    return min(max(quality, 0.0), 1.0)


def _preference(judge: JudgeSpec, qualities: list[float], draw: tuple[object, ...]) -> Preference:
    first, second = qualities
    noise = judge.noise_sd / 4.0 * math.sqrt(2.0) * normal("pair", *draw)
    lead = first - second + judge.position_bias + noise
    if abs(lead) <= judge.tie_width:
        return "tie"
    return "first" if lead > 0 else "second"


def _known_grade(judge: JudgeSpec, reply: Judged) -> int | None:
    matching = [key for key in judge.known if normalise(key).strip() in reply.text]
    return judge.known[max(matching, key=len)] if matching else None


def _misbehaviour(judge: JudgeSpec, draw: tuple[object, ...]) -> Misbehaviour | None:
    if not judge.misbehaviour:
        return None
    place = uniform("misbehave", *draw)
    for kind, rate in judge.misbehaviour.items():
        if place < rate:
            return kind
        place -= rate
    return None


def _identity(ask: Ask, matter: Matter) -> str:
    mode = "pair" if is_pairwise(ask) else "one"
    return fingerprint(mode, matter.topic, *(reply.text for reply in matter.replies))


def _forced(ask: Ask) -> Tool | None:
    """The tool a judge must answer with; any offered tool serves when none is named."""
    if not ask.tools or ask.tool_choice == "none":
        return None
    return next((tool for tool in ask.tools if tool.name == ask.tool_choice), ask.tools[0])


def _as_json(ask: Ask, text: str) -> str:
    """The text as the string members of a JSON object."""
    if ask.schema is None:
        return json.dumps({"answer": text})
    return json.dumps(fill_tool(Tool(name="", schema=ask.schema), ask.last, text=text))


def _limited(answer: Answer, ask: Ask) -> Answer:
    """The answer cut at the first stop sequence and at max_tokens."""
    text, reason, sequence = answer.text, answer.stop_reason, answer.stop_sequence
    cuts = [(text.find(stop), stop) for stop in ask.stop if stop and stop in text]
    if cuts:
        at, sequence = min(cuts)
        text, reason = text[:at], "stop_sequence"
    limit = None if ask.max_tokens is None else max(ask.max_tokens, 1) * CHARS_PER_TOKEN
    if limit is not None and len(text) > limit:
        text, reason, sequence = text[:limit], "max_tokens", None
    tool_input = answer.tool_input
    if limit is not None and len(tool_input) > limit:
        tool_input, reason = tool_input[:limit], "max_tokens"
    return replace(
        answer, text=text, tool_input=tool_input, stop_reason=reason, stop_sequence=sequence
    )
