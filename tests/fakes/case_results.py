"""Results of models on Cases, made by hand for tests of summary and decision."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np

from app.domain.attempts import FailureClass
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.results import CaseResult

ENDPOINT = Endpoint(base_url="http://localhost:1")


def model(name: str, role: Role = Role.CANDIDATE, model_id: str | None = None) -> ModelSpec:
    """A configured model."""
    return ModelSpec(name=name, model=model_id or f"{name}-1", role=role, endpoint=ENDPOINT)


def case_result(
    model_name: str,
    case: int,
    quality: float | None = 1.0,
    cost: str | float = "0.01",
    failure: FailureClass | None = None,
    *,
    weight: float = 0.01,
    copies: int = 1,
    stratum: str = "",
    conversation: str | None = None,
    segments: Mapping[str, str] | None = None,
    is_anchor: bool = False,
    is_later_turn: bool = False,
    is_cost_known: bool = True,
    latency_s: float | None = 1.0,
    run: str = "r1",
    retries: int = 0,
) -> CaseResult:
    """One model's result on one Case."""
    is_success = failure is None
    return CaseResult(
        case_id=f"{run}-{case}",
        source_id=f"row-{case}",
        model_name=model_name,
        weight=weight,
        copies=copies,
        stratum=stratum,
        conversation=conversation,
        segments=segments or {},
        is_anchor=is_anchor,
        is_later_turn=is_later_turn,
        failure_class=failure,
        quality=quality if is_success else 0.0,
        spend_usd=Decimal(str(cost)),
        is_cost_known=is_cost_known,
        attempts=1 + retries,
        retries=retries,
        ttft_s=None if not is_success or latency_s is None else latency_s / 4,
        latency_s=latency_s if is_success else None,
        felt_latency_s=latency_s if is_success else None,
    )


def world(
    rng: np.random.Generator,
    n: int,
    models: Mapping[str, tuple[float, float]],
    *,
    run: str = "r1",
    segments: Sequence[str] = (),
) -> list[CaseResult]:
    """Results of models with set (quality, cost factor) on n Cases, shared difficulty per Case."""
    difficulty = rng.normal(0.0, 0.15, n)
    size = rng.gamma(4.0, 0.0025, n)
    rows: list[CaseResult] = []
    for name, (quality, factor) in models.items():
        scores = np.clip(quality + difficulty + rng.normal(0.0, 0.1, n), 0.0, 1.0)
        rows.extend(
            case_result(
                name,
                i,
                round(float(scores[i]), 4),
                round(float(size[i] * factor), 8),
                weight=1.0 / n,
                latency_s=round(float(1.0 + 0.5 * abs(difficulty[i])), 4),
                segments={"route": segments[i % len(segments)]} if segments else None,
                run=run,
            )
            for i in range(n)
        )
    return rows
