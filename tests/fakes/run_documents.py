"""A Run's document as `report --json` prints it, small enough to read."""

from typing import Any


def figure(value: Any, low: Any, high: Any) -> dict[str, Any]:
    """A point with its interval."""
    return {"value": value, "low": low, "high": high}


def model(name: str, role: str = "candidate", **changes: Any) -> dict[str, Any]:
    """A model's figures; a candidate at 0.84 for $5.60 a thousand."""
    made: dict[str, Any] = {
        "name": name,
        "model": f"vendor-{name}",
        "role": role,
        "cases": 100,
        "successes": 97,
        "quality": figure(0.84, 0.80, 0.88),
        "success_rate": 0.99,
        "cost_per_success_usd": "0.0056",
        "cost_per_1k_usd": "5.6",
        "cost_per_quality_usd": figure("0.0067", "0.0061", "0.0073"),
        "spend_usd": "0.56",
        "unknown_cost": 0,
        "attempts": 103,
        "retries": 3,
        "ttft_ms": {"p50": 320.0, "p95": 900.0, "p99": None},
        "latency_ms": {"p50": 1200.0, "p95": 3100.0, "p99": None},
        "intervals": {
            "success_rate": figure(0.99, 0.95, 1.0),
            "cost_per_success_usd": figure("0.0056", "0.0051", "0.0061"),
            "cost_per_1k_usd": figure("5.6", "5.1", "6.1"),
            "ttft_ms": {"p50": figure(320.0, 300.0, 350.0), "p95": None, "p99": None},
            "latency_ms": {
                "p50": figure(1200.0, 1100.0, 1300.0),
                "p95": figure(3100.0, 2700.0, 3900.0),
                "p99": None,
            },
        },
        "failures": {"timeout": 1, "refusal": 2},
        "pattern": None,
        "absent": {},
    }
    return made | changes


def comparison(candidate: str, **changes: Any) -> dict[str, Any]:
    """A recommended candidate: 38 % cheaper at equal quality."""
    made: dict[str, Any] = {
        "candidate": candidate,
        "primary": "prod",
        "pairs": 400,
        "window_weeks": 4,
        "quality_delta": figure(-0.01, -0.03, 0.01),
        "saving": figure(0.38, 0.31, 0.44),
        "value_ratio": figure(0.63, 0.58, 0.68),
        "success_delta": -0.012,
        "latency_p50_ratio": 0.8,
        "latency_p95_ratio": 0.7,
        "intervals": {
            "success_delta": figure(-0.012, -0.03, 0.006),
            "latency_p50_ratio": figure(0.8, 0.75, 0.86),
            "latency_p95_ratio": figure(0.7, 0.6, 0.82),
        },
        "verdict": "switch",
        "state": "alert",
        "reasons": ["Saves 31–44 % at equal quality"],
        "caveats": [],
        "monthly_saving_usd": figure("1140", "920", "1310"),
        "segments": [],
        "epoch_reason": None,
        "tests": {},
    }
    return made | changes


def document(**changes: Any) -> dict[str, Any]:
    """A complete Run of one primary and one recommended candidate."""
    made: dict[str, Any] = {
        "run_id": "6f73a595-7958-4bd5-986c-0164ba0592aa",
        "plan": "support-bot",
        "slot": "2026-03-29T06:00",
        "status": "done",
        "error": None,
        "triggered_by": "schedule",
        "config_hash": "aaaa",
        "window": {"start": "2026-03-22T05:00:00+00:00", "end": "2026-03-29T05:00:00+00:00"},
        "seed": 7,
        "cases": {
            "frame": 2310,
            "sampled": 100,
            "skipped": {"too_long": 1, "empty": 3},
            "anchors": 20,
        },
        "models": [
            model("prod", "primary", quality=figure(0.85, 0.81, 0.89), cost_per_1k_usd="9.1"),
            model("haiku"),
        ],
        "comparisons": [comparison("haiku")],
        "drift": {"regressed": False, "sentences": []},
        "judge": {
            "models": ["judge"],
            "judged": 200,
            "unscored": 1,
            "agreement": 0.91,
            "canaries": 6,
            "canaries_right": 6,
            "warnings": [],
            "spend_usd": "2.30",
        },
        "adaptive": {"saved_calls": 0, "dropped": {}},
        "spend": {
            "models_usd": "11.90",
            "judge_usd": "2.30",
            "total_usd": "14.20",
            "budget_usd": "25",
        },
        "alerts": [
            {"key": "support-bot/switch:haiku", "kind": "switch", "title": "Switch to haiku"}
        ],
    }
    return made | changes
