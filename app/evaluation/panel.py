"""The evaluation of one Case: gates first, then checks, then the judge on what is left."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.calls.caller import Calls
from app.domain.attempts import Completion, Reply, ShardRef
from app.domain.cases import Case
from app.domain.plans import Plan
from app.domain.prices import Price
from app.domain.scores import Score, ScoreRecord, Unscored
from app.evaluation.canaries import grade_canaries
from app.evaluation.catalogue import build_evaluators, embedding_evaluators, judge_evaluators
from app.evaluation.embeddings import EmbeddingEvaluator, Embeddings
from app.evaluation.evaluator import ConfiguredEvaluator
from app.evaluation.gathering import gathered
from app.evaluation.judge import Judge, JudgeEvaluator, Verdicts

PAIRWISE_SUFFIX = "_pairwise"
"""Preferences are stored beside the grades as `LABEL_pairwise`, with weight 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """A successful reply, and what its gates say of it."""

    model_name: str
    completion: Completion
    passed_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One use of the judge and those who gave the reply it is about."""

    evaluator: JudgeEvaluator
    group: tuple[_Answered, ...]


class EvaluationPanel:
    """Everything a Plan has to say of the replies to its Cases.

    Args:
        plan: The Plan; its Evaluators are built at once, so that a wrong one stops the Run early.
        calls: Makes the paid calls of judges and of embeddings.
        prices: Prices of the models that evaluate, by name.
        seed: The Run's seed.

    Raises:
        ConfigError: If an Evaluator of the Plan cannot be built.
    """

    def __init__(self, plan: Plan, *, calls: Calls, prices: Mapping[str, Price], seed: int) -> None:
        evaluators = build_evaluators(plan)
        self._gates = [one for one in evaluators if one.is_gate]
        self._checks = [one for one in evaluators if not one.is_gate]
        embedded = embedding_evaluators(plan)
        self._embedded_gates = [one for one in embedded if one.is_gate]
        self._embedded_checks = [one for one in embedded if not one.is_gate]
        self._embeddings = (
            Embeddings(
                calls,
                plan_name=plan.name,
                model=plan.embedder,
                price=prices[plan.embedder.name],
            )
            if plan.embedder is not None and embedded
            else None
        )
        self._judged = judge_evaluators(plan)
        self._primary = plan.primary.name
        self._candidates = {model.name for model in plan.candidates}
        self._judge = (
            Judge(calls, plan_name=plan.name, settings=plan.judge, prices=prices, seed=seed)
            if plan.judge is not None and self._judged
            else None
        )

    async def evaluate(
        self,
        case: Case,
        replies: Sequence[Reply],
        *,
        shard: ShardRef,
        done: Sequence[ScoreRecord] = (),
    ) -> list[ScoreRecord]:
        """Score the replies to one Case.

        1. Unsuccessful replies are worth 0 and get no score at all.
        2. Gates run first, those by embeddings last of them; a reply that fails one, or whose gate
           could not be judged, goes no further.
        3. The other Evaluators follow, the deterministic ones first.
        4. The judge sees what is left. Equal replies share one judgement.

        Args:
            case: What was asked.
            replies: One Reply per model.
            shard: Where paid calls are journaled.
            done: Records already stored; what they cover is not scored again.

        Returns:
            The new records, for the journal.

        Raises:
            BudgetExhausted: If a cap forbids a paid call; and whatever else the caller raises.
        """
        stored = _Stored(case, done)
        answered = [
            self._gated(case, reply.model_name, completion, stored)
            for reply in replies
            if reply.failure_class is None and (completion := reply.completion) is not None
        ]
        passed: Sequence[_Answered] = [answer for answer in answered if answer.passed_all]
        passed = await self._embed(self._embedded_gates, case, passed, stored, shard=shard)
        for answer in passed:
            _score_all(self._checks, case, answer.model_name, answer.completion, stored)
        await self._embed(self._embedded_checks, case, passed, stored, shard=shard)
        if self._embeddings is not None:
            self._embeddings.forget(case.case_id)
        if self._judge is not None and passed:
            await self._grade(self._judge, case, passed, stored, shard=shard)
            if self._judge.settings.mode == "pairwise":
                await self._compare(self._judge, case, passed, stored, shard=shard)
        return stored.new

    async def grade_canaries(
        self, case_id: str, *, shard: ShardRef, done: Sequence[ScoreRecord] = ()
    ) -> list[ScoreRecord]:
        """Have the judges grade the canaries, once per Run, with the calls kept under that Case."""
        if self._judge is None:
            return []
        return await grade_canaries(self._judge, case_id=case_id, shard=shard, done=done)

    def _gated(
        self, case: Case, model_name: str, completion: Completion, stored: "_Stored"
    ) -> _Answered:
        records = _score_all(self._gates, case, model_name, completion, stored)
        return _Answered(
            model_name=model_name,
            completion=completion,
            passed_all=all(record.is_passed for record in records),
        )

    async def _embed(
        self,
        evaluators: Sequence[EmbeddingEvaluator],
        case: Case,
        answered: Sequence[_Answered],
        stored: "_Stored",
        *,
        shard: ShardRef,
    ) -> Sequence[_Answered]:
        """Measure the replies by embeddings; returns those that passed every gate among these."""
        for evaluator in evaluators:
            if self._embeddings is not None and evaluator.applies_to(case):
                answered = await _measure(
                    self._embeddings, evaluator, case, answered, stored, shard=shard
                )
        return answered

    async def _grade(
        self,
        judge: Judge,
        case: Case,
        answered: Sequence[_Answered],
        stored: "_Stored",
        *,
        shard: ShardRef,
    ) -> None:
        """Grade each distinct reply once and write the grade down for every model that gave it."""

        async def ask(question: _Question, judges: Sequence[str]) -> Verdicts:
            reply = question.group[0].completion
            return await judge.grade(case, reply, question.evaluator, shard=shard, judges=judges)

        await _complete(stored, judge, _questions(self._judged, case, answered), ask)

    async def _compare(
        self,
        judge: Judge,
        case: Case,
        answered: Sequence[_Answered],
        stored: "_Stored",
        *,
        shard: ShardRef,
    ) -> None:
        """Compare every distinct candidate reply with the primary's."""
        primary = next((one for one in answered if one.model_name == self._primary), None)
        if primary is None:
            return
        others = [one for one in answered if one.model_name in self._candidates]
        evaluators = [_pairwise(evaluator) for evaluator in self._judged]

        async def ask(question: _Question, judges: Sequence[str]) -> Verdicts:
            pair = (primary.completion, question.group[0].completion)
            return await judge.compare(case, pair, question.evaluator, shard=shard, judges=judges)

        await _complete(stored, judge, _questions(evaluators, case, others), ask)


class _Stored:
    """The records of one Case: those stored before, and the new ones."""

    def __init__(self, case: Case, done: Iterable[ScoreRecord]) -> None:
        self._case_id = case.case_id
        self._records = {
            (record.model_name, record.evaluator, record.evaluator_version): record
            for record in done
            if record.case_id == case.case_id
        }
        self.new: list[ScoreRecord] = []

    def find(self, model_name: str, evaluator: str, version: str) -> ScoreRecord | None:
        """The record of this Evaluator on this model's reply, if there is one."""
        return self._records.get((model_name, evaluator, version))

    def result(self, evaluator: str, version: str, names: Sequence[str]) -> Score | Unscored | None:
        """What is stored of this Evaluator on a reply that these models gave."""
        records = (self.find(name, evaluator, version) for name in names)
        return next((record.result for record in records if record is not None), None)

    def add(self, record: ScoreRecord) -> None:
        """Keep a new record, unless there is one."""
        key = (record.model_name, record.evaluator, record.evaluator_version)
        if key not in self._records:
            self._records[key] = record
            self.new.append(record)

    def verdicts(
        self, evaluator: JudgeEvaluator, names: Sequence[str], judge: Judge
    ) -> dict[str, Score | Unscored]:
        """What is stored of the judges' word on a reply that these models gave."""
        found: dict[str, Score | Unscored] = {}
        for model in judge.models:
            label = _record_name(evaluator, model.name, judge)
            known = self.result(label, evaluator.version, names)
            if known is not None:
                found[model.name] = known
        return found

    def write_verdicts(
        self, evaluator: JudgeEvaluator, model_name: str, verdicts: Verdicts, judge: Judge
    ) -> None:
        """Keep every judge's word on this model's reply."""
        for judge_name, result in verdicts.items():
            self.add(
                ScoreRecord(
                    case_id=self._case_id,
                    model_name=model_name,
                    evaluator=_record_name(evaluator, judge_name, judge),
                    evaluator_version=evaluator.version,
                    result=result,
                    weight=evaluator.weight,
                    judge_model=judge_name,
                )
            )


async def _complete(
    stored: _Stored,
    judge: Judge,
    questions: Sequence[_Question],
    ask: Callable[[_Question, Sequence[str]], Awaitable[Verdicts]],
) -> None:
    """Ask the judges whose word is not stored, all at once, and keep it for every model."""

    async def answer(question: _Question) -> Verdicts:
        names = [answer.model_name for answer in question.group]
        known = stored.verdicts(question.evaluator, names, judge)
        missing = [model.name for model in judge.models if model.name not in known]
        return {**known, **(await ask(question, missing) if missing else {})}

    said = await gathered(answer(question) for question in questions)
    for question, verdicts in zip(questions, said, strict=True):
        for one in question.group:
            stored.write_verdicts(question.evaluator, one.model_name, verdicts, judge)


async def _measure(
    embeddings: Embeddings,
    evaluator: EmbeddingEvaluator,
    case: Case,
    answered: Sequence[_Answered],
    stored: _Stored,
    *,
    shard: ShardRef,
) -> list[_Answered]:
    """Measure each distinct reply once, unless that is stored; returns those who passed."""
    groups = _by_text(answered)

    async def measured(group: Sequence[_Answered]) -> Score | Unscored:
        names = [one.model_name for one in group]
        known = stored.result(evaluator.label, evaluator.version, names)
        if known is not None:
            return known
        return await embeddings.score(case, group[0].completion, evaluator, shard=shard)

    said = await gathered(measured(group) for group in groups)
    results = dict(zip((group[0].completion.text for group in groups), said, strict=True))
    passed = []
    for one in answered:
        record = evaluator.record(case, one.model_name, results[one.completion.text])
        stored.add(record)
        if record.is_passed or not record.is_gate:
            passed.append(one)
    return passed


def _by_text(answered: Iterable[_Answered]) -> list[list[_Answered]]:
    """Those who said the same, together."""
    groups: dict[str, list[_Answered]] = {}
    for answer in answered:
        groups.setdefault(answer.completion.text, []).append(answer)
    return list(groups.values())


def _questions(
    evaluators: Sequence[JudgeEvaluator], case: Case, answered: Sequence[_Answered]
) -> list[_Question]:
    """What to ask of the judge: each use of it about each distinct reply."""
    groups: dict[str, list[_Answered]] = {}
    for answer in answered:
        groups.setdefault(answer.completion.fingerprint, []).append(answer)
    return [
        _Question(evaluator=evaluator, group=tuple(group))
        for evaluator in evaluators
        if evaluator.applies_to(case)
        for group in groups.values()
    ]


def _score_all(
    evaluators: Sequence[ConfiguredEvaluator],
    case: Case,
    model_name: str,
    completion: Completion,
    stored: _Stored,
) -> list[ScoreRecord]:
    records: list[ScoreRecord] = []
    for one in evaluators:
        if not one.applies_to(case):
            continue
        record = stored.find(model_name, one.label, one.evaluator.version)
        if record is None:
            record = one.record(case, model_name, completion)
            stored.add(record)
        records.append(record)
    return records


def _record_name(evaluator: JudgeEvaluator, judge_name: str, judge: Judge) -> str:
    """The label; in a panel followed by the judge, so that each judge has a record of its own."""
    return evaluator.label if len(judge.models) == 1 else f"{evaluator.label}:{judge_name}"


def _pairwise(evaluator: JudgeEvaluator) -> JudgeEvaluator:
    return JudgeEvaluator(
        label=evaluator.label + PAIRWISE_SUFFIX,
        rubric=evaluator.rubric,
        version=evaluator.version,
        weight=0.0,
        when=evaluator.when,
    )
