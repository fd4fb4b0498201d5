"""The sandbox gateway: Anthropic's Messages, OpenAI's chat completions and embeddings over a World.

Routes: `POST /v1/messages`, `POST /v1/chat/completions`, `POST /v1/embeddings`, `GET /v1/models`,
and for those who run the sandbox `/_sandbox/world` (GET, POST, PATCH), `/_sandbox/clock` (GET,
POST), `/_sandbox/calls` (GET, DELETE) and `/_sandbox/health`.
"""

import asyncio
import contextlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.sandbox.anthropic_wire import AnthropicWire
from app.sandbox.brain import Brain, count_tokens
from app.sandbox.calllog import CallLog
from app.sandbox.clock import SandboxClock, parse_instant
from app.sandbox.delivery import Call, play_silent_fault, refuse, send_refusal, send_reply
from app.sandbox.dialogue import Answer, Ask
from app.sandbox.draws import fingerprint
from app.sandbox.embeddings_wire import EmbeddingsWire
from app.sandbox.faults import Refused, changed_answer, draw_fault, refusal
from app.sandbox.openai_wire import OpenAIWire
from app.sandbox.wire import MalformedRequestError, Wire
from app.sandbox.world import ModelSpec, World, world_from_json
from app.sandbox.worlds import named_world

_LOGGED_HEADERS = (b"x-switchwise-", b"x-stainless-retry-count", b"idempotency-key")


class Gateway:
    """State of one gateway: its World, clock and call log.

    Attributes:
        calls: The record of all calls.
        clock: The simulated clock.
    """

    def __init__(
        self, world: World, *, call_log: Path | None = None, clock_file: Path | None = None
    ) -> None:
        self.calls = CallLog(call_log)
        self.clock = SandboxClock(clock_file)
        self._graded: Counter[tuple[str, str, int]] = Counter()
        self._watched: tuple[Path, Callable[[], World]] | None = None
        self._stamp = 0
        self.world = world

    @property
    def world(self) -> World:
        """The World in force."""
        return self._world

    @world.setter
    def world(self, world: World) -> None:
        self._world = world
        self._specs: dict[tuple[str, int], ModelSpec] = {}
        self.brain = Brain(world=world)
        if world.clock_file is not None:
            self.clock.follow(Path(world.clock_file))

    def watch(self, path: Path, load: Callable[[], World]) -> None:
        """Loads the World anew whenever that file has changed."""
        self._watched, self._stamp = (path, load), path.stat().st_mtime_ns

    def refresh(self) -> None:
        """Takes over a changed World file; a broken one is left for the next look."""
        if self._watched is None:
            return
        path, load = self._watched
        with contextlib.suppress(OSError, ValueError):
            stamp = path.stat().st_mtime_ns
            if stamp != self._stamp:
                self.world = load()
                self._stamp = stamp

    @property
    def week(self) -> int:
        """The simulated week."""
        return self._world.week(self.clock.now())

    def spec(self, model: str, week: int) -> ModelSpec:
        """The model as it is in that week; KeyError for an unknown name."""
        found = self._specs.get((model, week))
        if found is None:
            found = self._specs[model, week] = self._world.spec(model, week)
        return found

    def answer(self, ask: Ask, spec: ModelSpec, week: int) -> Answer:
        """The model's reply."""
        return self.brain.answer(
            ask,
            week=week,
            spec=spec,
            repeats=lambda judged: self._graded[ask.model, judged, week],
        )

    def grade_given(self, ask: Ask, answer: Answer, week: int) -> None:
        """Notes that a matter has been graded, so that the next grading draws fresh noise."""
        if answer.judged is not None:
            self._graded[ask.model, answer.judged, week] += 1


def gateway_app(gateway: Gateway) -> Starlette:
    """The ASGI application of a gateway."""
    return Starlette(routes=gateway_routes(gateway))


def gateway_routes(gateway: Gateway) -> list[Route]:
    """The routes of a gateway."""
    admin = _Admin(gateway)
    return [
        Route("/v1/messages", _Endpoint(gateway, AnthropicWire()), methods=["POST"]),
        Route("/v1/chat/completions", _Endpoint(gateway, OpenAIWire()), methods=["POST"]),
        Route("/v1/embeddings", _Endpoint(gateway, EmbeddingsWire()), methods=["POST"]),
        Route("/v1/models", admin.models),
        Route("/_sandbox/world", admin.world, methods=["GET", "POST", "PATCH"]),
        Route("/_sandbox/clock", admin.clock, methods=["GET", "POST"]),
        Route("/_sandbox/calls", admin.calls, methods=["GET", "DELETE"]),
        Route("/_sandbox/health", admin.health),
    ]


class _Endpoint:
    """One vendor's endpoint, as a plain ASGI application."""

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        self._gateway = gateway
        self._wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the request, checks it, and plays the call."""
        body = await _body(receive)
        self._gateway.refresh()
        checked = self._checked(scope, body)
        if isinstance(checked, Refused):
            ident = fingerprint(body[:10_000].decode(errors="replace"))
            await refuse(send, self._wire, checked, ident)
            return
        with contextlib.suppress(asyncio.CancelledError):  # the server stops
            await self._count(checked, scope, receive, send)

    def _checked(self, scope: Scope, body: bytes) -> Ask | Refused:
        """The request, or the error it earns before any model sees it."""
        world = self._gateway.world
        if len(body) > world.max_request_bytes:
            return Refused(status=413, kind="request_too_large", message="Request is too large")
        if world.api_keys and not _is_authorised(scope["headers"], world.api_keys):
            return Refused(status=401, kind="authentication_error", message="invalid x-api-key")
        try:
            data = json.loads(body)
            if not isinstance(data, dict):
                raise MalformedRequestError("the body must be a JSON object")
            return self._wire.ask(data)
        except (ValueError, RecursionError) as error:
            return Refused(status=400, kind="invalid_request_error", message=str(error)[:300])

    async def _count(self, ask: Ask, scope: Scope, receive: Receive, send: Send) -> None:
        """Plays the call between its arrival and its line in the log."""
        gateway = self._gateway
        started_at, started = time.time(), time.perf_counter()
        now = gateway.clock.now()
        nth = gateway.calls.receive(ask.key, ask.model)
        call = Call(
            scope=scope, receive=receive, send=send, wire=self._wire, ask=ask,
            week=gateway.world.week(now), nth=nth, ident=fingerprint(ask.key, nth),
        )  # fmt: skip
        try:
            await self._play(call)
        finally:
            gateway.calls.finish(
                {
                    "received_at": round(started_at, 6),
                    "duration_s": round(time.perf_counter() - started, 6),
                    "simulated_at": now.isoformat(),
                    **_row(call),
                }
            )

    async def _play(self, call: Call) -> None:
        gateway, ask = self._gateway, call.ask
        try:
            spec = gateway.spec(ask.model, call.week)
        except KeyError:
            missing = Refused(status=404, kind="not_found_error", message=f"model: {ask.model}")
            await send_refusal(call, missing, "unknown_model")
            return
        refused = self._refused(call, spec)
        if refused is not None:
            await send_refusal(call, refused, "rejected")
            return
        fault = draw_fault(spec.faults, ask, seed=gateway.world.seed, nth=call.nth)
        if fault is not None and (error := refusal(fault)) is not None:
            await send_refusal(call, error, fault.kind.value)
            return
        call.outcome = fault.kind.value if fault else "ok"
        if fault is not None and await play_silent_fault(
            call, fault, gateway.world.ping_interval_s
        ):
            return
        answer = gateway.answer(ask, spec, call.week)
        call.answer = answer if fault is None else changed_answer(answer, fault)
        await send_reply(call, fault, gateway.world.chunks)
        if call.is_closed and fault is None:
            call.outcome = "disconnected"
        elif fault is None:
            gateway.grade_given(ask, answer, call.week)

    def _refused(self, call: Call, spec: ModelSpec) -> Refused | None:
        """The error a request earns because of what this model or endpoint does not take."""
        in_flight = self._gateway.calls.in_flight(call.ask.model)
        if spec.max_in_flight is not None and in_flight > spec.max_in_flight:
            return Refused(
                status=429,
                kind="rate_limit_error",
                message="Too many concurrent requests",
                retry_after="0.05",
            )
        for feature in call.ask.features.intersection(spec.rejects):
            if feature != "temperature" or not _is_old_version(call.scope):
                return Refused(
                    status=400,
                    kind="invalid_request_error",
                    message=f"{feature}: this model does not support it",
                )
        tokens = count_tokens(call.ask)
        if tokens > spec.context_tokens:
            return Refused(
                status=400,
                kind="invalid_request_error",
                message=f"prompt is too long: {tokens} tokens > {spec.context_tokens} maximum",
            )
        return None


class _Admin:
    """What those who run the sandbox may look at and set."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def world(self, request: Request) -> Response:
        """Shows the World (GET), replaces it (POST, or `{"named": …}`), amends it (PATCH)."""
        gateway = self._gateway
        gateway.refresh()
        if request.method == "GET":
            return JSONResponse(gateway.world.to_json())
        data = await request.json()
        try:
            if request.method == "PATCH":
                data = _merged(gateway.world.to_json(), data)
            named = data.get("named")
            gateway.world = named_world(named) if named else world_from_json(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse(gateway.world.to_json())

    async def clock(self, request: Request) -> Response:
        """Shows the simulated instant and week (GET), or sets the instant (POST `{"now": …}`)."""
        gateway = self._gateway
        if request.method == "POST":
            try:
                text = (await request.json())["now"]
                gateway.clock.set(None if text is None else parse_instant(text))
            except (ValueError, KeyError, TypeError) as error:
                return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"now": gateway.clock.now().isoformat(), "week": gateway.week})

    async def calls(self, request: Request) -> Response:
        """Shows the counts (GET; with `?rows=1&since=N` also the rows) or resets them (DELETE)."""
        calls = self._gateway.calls
        if request.method == "DELETE":
            calls.clear()
        shown = calls.counts()
        if request.query_params.get("rows"):
            shown["rows"] = calls.rows(int(request.query_params.get("since", "0")))
        return JSONResponse(shown)

    async def models(self, _: Request) -> Response:
        """Lists the models."""
        entries = [
            {"id": name, "type": "model", "object": "model", "display_name": name}
            for name in self._gateway.world.models
        ]
        return JSONResponse({"object": "list", "data": entries, "has_more": False})

    async def health(self, _: Request) -> Response:
        """Says that the gateway answers."""
        return JSONResponse({"status": "ok", "world": self._gateway.world.name})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    if not message.get("more_body", False):
        return bytes(message.get("body", b""))
    parts = [message.get("body", b"")]
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


def _is_authorised(headers: list[tuple[bytes, bytes]], keys: tuple[str, ...]) -> bool:
    given = [value for name, value in headers if name == b"x-api-key"]
    given += [
        value[7:]
        for name, value in headers
        if name == b"authorization" and value[:7].lower() == b"bearer "
    ]
    return any(hmac.compare_digest(one, key.encode()) for one in given for key in keys)


def _is_old_version(scope: Scope) -> bool:
    return (b"anthropic-version", b"2023-06-01") in scope["headers"]


def _row(call: Call) -> dict[str, object]:
    """The call's line in the log."""
    ask, answer = call.ask, call.answer
    row: dict[str, object] = {
        "api": call.wire.name,
        "model": ask.model,
        "week": call.week,
        "case": ask.case,
        "key": ask.key,
        "nth": call.nth,
        "is_stream": ask.is_stream,
        "status": call.status,
        "outcome": call.outcome,
        "is_paid": answer is not None,
        "request_id": f"req_{call.ident}",
        "headers": {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in call.scope["headers"]
            if name.startswith(_LOGGED_HEADERS)
        },
    }
    if answer is not None:
        row |= {
            "stop_reason": answer.stop_reason,
            "input_tokens": answer.input_tokens,
            "cache_read_tokens": answer.cache_read_tokens,
            "output_tokens": answer.output_tokens,
            "ttft_s": round(answer.ttft_s, 6),
            "latency_s": round(answer.latency_s, 6),
            "quality": answer.quality,
            "judged": answer.judged,
            "grade": answer.grade,
        }
    return row


def _merged(whole: Mapping[str, object], change: Mapping[str, object]) -> dict[str, object]:
    """The object with the change's members put in, member objects merged in turn."""
    merged = dict(whole)
    for name, value in change.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(old, value)
        else:
            merged[name] = value
    return merged
