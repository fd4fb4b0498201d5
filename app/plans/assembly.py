"""Turns checked sections into a Plan, and checks what one section alone cannot know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from app.domain.models import Endpoint, ModelSpec, Role, Secret
from app.domain.plans import (
    Budget,
    EvaluatorSettings,
    JudgeSettings,
    LogSettings,
    Plan,
    Policy,
    Privacy,
    Replay,
    Retention,
    SampleSettings,
    Schedule,
    Server,
    SlackSettings,
    WebhookSettings,
)
from app.domain.prices import Price, Rates, Tier
from app.plans.addresses import Address, BadAddress, parse_address, split_bind
from app.plans.documents import Document, Findings, Place
from app.plans.evaluators import check_evaluator, parsed_option
from app.plans.references import BrokenReference, References, reason_of
from app.plans.sections import (
    EmbeddingPriceSection,
    EmbeddingsSection,
    EndpointSection,
    EvaluatorSection,
    JudgeSection,
    LogsSection,
    ModelSection,
    OpenLoadSection,
    PlanFile,
    PriceSection,
    RatesSection,
    SlackSection,
)

DEFAULT_BASE_URL = "${LLM_BASE_URL:-https://api.anthropic.com}"
DEFAULT_API_KEY = "${LLM_API_KEY}"
DEFAULT_SLACK_TOKEN = "${SLACK_BOT_TOKEN}"  # noqa: S105 - a reference, not a token
DEFAULT_LOGS_DSN = "${LOGS_DATABASE_URL:-}"
_SECRET_WORDS = ("auth", "key", "token", "secret", "password", "cookie")
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """One plan file on its way to a Plan; what is wrong goes to the findings."""

    file: PlanFile
    document: Document
    findings: Findings
    references: References

    def plan(self) -> Plan:
        """The Plan; of use only when the findings stay empty."""
        file = self.file
        primary = self._model(file.primary, ("primary",), Role.PRIMARY)
        candidates = tuple(
            self._model(section, ("candidates", index), Role.CANDIDATE)
            for index, section in enumerate(file.candidates)
        )
        judge = self._judge(primary)
        embedder = self._embedder()
        self._check_models(primary, candidates, judge, embedder)
        evaluators = self._evaluators()
        logs = self._logs(file.logs)
        endpoints = [model.endpoint for model in (primary, *candidates)]
        endpoints += [model.endpoint for model in judge.models] if judge else []
        endpoints += [embedder.endpoint] if embedder else []
        return Plan(
            name=file.name,
            primary=primary,
            candidates=candidates,
            logs=logs,
            sample=self._sample(),
            evaluators=evaluators,
            judge=judge,
            embedder=embedder,
            policy=Policy(**file.policy.model_dump()),
            budget=Budget(**file.budget.model_dump()),
            schedule=self._schedule(),
            replay=self._replay(),
            slack=self._slack(file.slack) if file.slack else None,
            webhook=self._webhook(),
            heartbeat_url=self._web_address(file.heartbeat_url or "", ("heartbeat_url",)) or None,
            retention=Retention(**file.retention.model_dump()),
            privacy=self._privacy(endpoints),
            server=self._server(),
            source_file=self.document.file,
        )

    # --- models -----------------------------------------------------------------------------

    def _model(self, section: ModelSection, place: Place, role: Role) -> ModelSpec:
        return ModelSpec(
            name=section.name,
            model=section.model,
            role=role,
            endpoint=self._endpoint(section, place),
            params=dict(section.params),
            price_as=section.price_as,
            price=None if section.price is None else price_of(section.price),
        )

    def _embedder(self) -> ModelSpec | None:
        section, place = self.file.embeddings, ("embeddings",)
        if section is None:
            return None
        endpoint = self._endpoint(section, place)
        return ModelSpec(
            name=section.name,
            model=section.model,
            role=Role.EMBEDDER,
            endpoint=replace(endpoint, api="embeddings", base_url=self._embeddings_url(endpoint)),
            params=dict(section.params),
            price_as=section.price_as,
            price=None if section.price is None else embedding_price_of(section.price),
        )

    def _embeddings_url(self, endpoint: Endpoint) -> str:
        """The address with /v1 at its end, which a gateway for the Messages API has not."""
        if urlsplit(endpoint.base_url).hostname == "api.anthropic.com":
            self._wrong(
                ("embeddings", "base_url"),
                "Anthropic serves no embeddings: name an OpenAI-compatible endpoint",
            )
        section = self.file.embeddings
        is_gateways = section is not None and section.base_url is None
        if is_gateways and (self.file.gateway.api or "anthropic") == "anthropic":
            return f"{endpoint.base_url}/v1"
        return endpoint.base_url

    def _endpoint(self, section: ModelSection | EmbeddingsSection, place: Place) -> Endpoint:
        gateway = self.file.gateway
        api = section.api or gateway.api or "anthropic"
        address = self._base_url(section, place)
        is_shared = section.base_url is None or address.host == self._gateway_host()
        timeout = section.timeout or gateway.timeout
        made = Endpoint(
            base_url=address.url.rstrip("/"),
            api_key=self._api_key(section, place, is_shared=is_shared),
            api=api,
            auth=section.auth or gateway.auth or "bearer",
            api_version=section.api_version or gateway.api_version,
            headers=self._headers(section, place, is_shared=is_shared),
            concurrency=section.concurrency or gateway.concurrency or 8,
            rate_per_min=section.rate_per_min or gateway.rate_per_min,
        )
        return made if timeout is None else replace(made, timeout_s=timeout.total_seconds())

    def _base_url(self, section: ModelSection | EmbeddingsSection, place: Place) -> Address:
        where = (*place, "base_url")
        url = section.base_url
        if url is None:
            where = ("gateway", "base_url")
            url = self.file.gateway.base_url or self._default(DEFAULT_BASE_URL, where)
        address = self._address(url, where)
        is_messages = (section.api or self.file.gateway.api or "anthropic") == "anthropic" and not (
            isinstance(section, EmbeddingsSection) and section.base_url is not None
        )
        if is_messages and urlsplit(address.url).path.rstrip("/").endswith("/v1"):
            self._wrong(where, "must not end in /v1 for api `anthropic`: the path is added")
        allowed = self.file.privacy.egress_allow
        if allowed is not None and not address.is_named_in(allowed):
            self._wrong(
                where, f"host {address.host} is not in privacy.egress_allow: no prompt may go there"
            )
        return address

    def _gateway_host(self) -> str:
        gateway = self.file.gateway.base_url or self._default(
            DEFAULT_BASE_URL, ("gateway", "base_url")
        )
        try:
            return parse_address(gateway).host
        except BadAddress:
            return ""

    def _api_key(self, section: EndpointSection, place: Place, *, is_shared: bool) -> Secret:
        if section.api_key is not None:
            return self._secret(section.api_key, (*place, "api_key"))
        gateway_place = ("gateway", "api_key")
        if not is_shared:
            self._wrong(
                (*place, "api_key"),
                "is required beside a base_url on another host than the gateway's: its key is not "
                'sent elsewhere (api_key: "" for an endpoint without keys)',
            )
            return Secret("")
        if self.file.gateway.api_key is not None:
            return self._secret(self.file.gateway.api_key, gateway_place)
        return Secret(self._default(DEFAULT_API_KEY, gateway_place))

    def _headers(
        self, section: EndpointSection, place: Place, *, is_shared: bool
    ) -> tuple[tuple[str, str], ...]:
        headers = dict(self._own_headers(self.file.gateway, ("gateway",))) if is_shared else {}
        return tuple((headers | dict(self._own_headers(section, place))).items())

    def _own_headers(self, section: EndpointSection, place: Place) -> Iterable[tuple[str, str]]:
        for name, value in section.headers.items():
            if _is_secret_name(name):
                self._secret(value, (*place, "headers", name))
            yield name, value

    def _judge(self, primary: ModelSpec) -> JudgeSettings | None:
        section = self.file.judge
        if section is not None:
            return self._judge_settings(section)
        if self.file.evaluators is None:
            return JudgeSettings(models=(replace(primary, name="judge", role=Role.JUDGE),))
        for index, evaluator in enumerate(self.file.evaluators):
            if evaluator.type == "judge":
                self._wrong(("evaluators", index), "needs a `judge` section with `models`")
        return None

    def _judge_settings(self, section: JudgeSection) -> JudgeSettings:
        values = section.model_dump(exclude={"models", "rubric"})
        return JudgeSettings(
            models=tuple(
                self._model(model, ("judge", "models", index), Role.JUDGE)
                for index, model in enumerate(section.models)
            ),
            rubric=self._text(section.rubric, ("judge", "rubric")),
            **values,
        )

    def _check_models(
        self,
        primary: ModelSpec,
        candidates: Sequence[ModelSpec],
        judge: JudgeSettings | None,
        embedder: ModelSpec | None,
    ) -> None:
        named: dict[str, Place] = {}
        seen: list[tuple[ModelSpec, str]] = []
        for place, model in self._placed(primary, candidates, judge, embedder):
            if model.name in named:
                self._wrong((*place, "name"), f"another model is already named {model.name!r}")
            named.setdefault(model.name, place)
            if model.role in {Role.JUDGE, Role.EMBEDDER}:
                continue
            for other, label in seen:
                if other.identity == model.identity:
                    self._wrong(place, f"is the same model as {label}: nothing to compare")
                    break
            label = "the primary" if model.role is Role.PRIMARY else f"candidate {model.name!r}"
            seen.append((model, label))

    def _placed(
        self,
        primary: ModelSpec,
        candidates: Sequence[ModelSpec],
        judge: JudgeSettings | None,
        embedder: ModelSpec | None,
    ) -> Iterable[tuple[Place, ModelSpec]]:
        yield ("primary",), primary
        for index, candidate in enumerate(candidates):
            yield ("candidates", index), candidate
        for index, model in enumerate(judge.models if judge and self.file.judge else ()):
            yield ("judge", "models", index), model
        if embedder is not None:
            yield ("embeddings",), embedder

    # --- logs and sample --------------------------------------------------------------------

    def _logs(self, section: LogsSection) -> LogSettings:
        place = ("logs",)
        for name, expression in section.segments.items():
            if not expression.strip():
                self._wrong((*place, "segments", name), "must not be empty")
        query = self._text(section.query, (*place, "query")) if section.query else None
        return LogSettings(
            preset=section.preset,
            dsn=self._logs_dsn(section, (*place, "dsn")),
            table=section.table,
            query=query.strip().rstrip(";") if query else None,
            path=str(self._found(section.path)) if section.path else None,
            columns={str(ours): theirs for ours, theirs in section.columns.items()},
            where=section.where or None,
            segments=dict(section.segments),
            statement_timeout_s=section.statement_timeout.total_seconds(),
            options=self._log_options(section, (*place, "options")),
        )

    def _logs_dsn(self, section: LogsSection, place: Place) -> Secret | None:
        if section.preset == "file":
            return None
        dsn = section.dsn
        if dsn is None:
            dsn = self._default(DEFAULT_LOGS_DSN, place)
        else:
            expansion = self.document.expansions.get(place)
            skeleton = dsn if expansion is None else expansion.skeleton
            if _has_password(skeleton):
                self._wrong(place, "a literal password is refused: write ${VAR} in its place")
        if not dsn:
            return None
        if urlsplit(dsn).scheme not in _POSTGRES:
            self._wrong(place, "must start with postgresql://")
        return Secret(dsn)

    def _log_options(self, section: LogsSection, place: Place) -> dict[str, Secret]:
        options: dict[str, Secret] = {}
        for name, value in section.options.items():
            if _is_secret_name(name):
                options[name] = self._secret(value, (*place, name))
            else:
                if name.endswith("url"):
                    self._address(value, (*place, name))
                options[name] = Secret(value)
        return options

    def _sample(self) -> SampleSettings:
        section, segments = self.file.sample, self.file.logs.segments
        by = tuple(section.by)
        place: Place = ("sample", "by")
        if section.strategy == "random" and by:
            self._wrong(place, "is only for strategy `stratified`")
        if section.strategy == "stratified" and not by:
            by = tuple(segments)
            if not by:
                self._wrong(("sample", "strategy"), "`stratified` needs logs.segments")
        self._check_segments(by, place)
        return SampleSettings(
            n=section.n,
            window=section.window,
            strategy="stratified" if by else "random",
            by=by,
            anchors=0 if self.file.privacy.store_bodies == "none" else section.anchors,
            max_input_tokens=section.max_input_tokens,
            adaptive=section.adaptive,
        )

    def _check_segments(self, names: Iterable[str], place: Place) -> None:
        """Presets other than `generic` bring segments of their own, so only that one is checked."""
        known = self.file.logs.segments
        if self.file.logs.preset != "generic":
            return
        for name in names:
            if name not in known:
                listed = ", ".join(known) or "none"
                self._wrong(place, f"there is no segment {name!r} in logs.segments ({listed})")

    # --- scoring ----------------------------------------------------------------------------

    def _evaluators(self) -> tuple[EvaluatorSettings, ...]:
        if self.file.evaluators is None:
            return (
                EvaluatorSettings(type="not_refused", gate=True),
                EvaluatorSettings(type="judge"),
            )
        return tuple(
            self._evaluator(section, ("evaluators", index))
            for index, section in enumerate(self.file.evaluators)
        )

    def _evaluator(self, section: EvaluatorSection, place: Place) -> EvaluatorSettings:
        self._check_segments(section.when, (*place, "when"))
        options = {
            name: self._option(section.type, name, value, (*place, name))
            for name, value in (section.model_extra or {}).items()
        }
        settings = EvaluatorSettings(
            type=section.type,
            gate=section.gate,
            weight=section.weight,
            when=dict(section.when),
            options=options,
            name=section.name,
        )
        for key, problem in check_evaluator(settings):
            self._wrong((*place, key) if key else place, problem)
        if settings.measures_embeddings and self.file.embeddings is None:
            self._wrong((*place, "measure"), "needs an `embeddings` section with a `model`")
        return settings

    def _option(self, type_name: str, name: str, value: object, place: Place) -> object:
        text = self._text(value, place) if isinstance(value, str) else value
        return parsed_option(type_name, name, text)

    # --- the rest ---------------------------------------------------------------------------

    def _schedule(self) -> Schedule | None:
        section = self.file.schedule
        if section is None:
            return None
        return Schedule(
            cron=section.cron, timezone=ZoneInfo(section.timezone), catch_up=section.catch_up
        )

    def _replay(self) -> Replay:
        load = self.file.replay.load
        rate = load.rate_per_s if isinstance(load, OpenLoadSection) else None
        if self.file.replay.report_both and rate is None:
            self._wrong(("replay", "report_both"), "needs `load: {rate_per_s: …}`")
        return Replay(rate_per_s=rate, report_both=self.file.replay.report_both)

    def _slack(self, section: SlackSection) -> SlackSettings | None:
        place = ("slack",)
        token = self._optional_secret(section.token, (*place, "token"))
        webhook = self._optional_secret(section.webhook_url, (*place, "webhook_url"))
        if section.token is None and section.webhook_url is None:
            token = Secret(self._default(DEFAULT_SLACK_TOKEN, (*place, "token")))
        if token and webhook:
            self._wrong(place, "give `token` and `channel`, or `webhook_url`, not both")
        if token and not section.channel:
            self._wrong((*place, "channel"), "is required beside `token`")
        if webhook:
            self._web_address(webhook.reveal(), (*place, "webhook_url"))
        if not token and not webhook:
            return None
        return SlackSettings(
            token=token,
            channel=section.channel or None,
            webhook_url=webhook,
            base_url=self._web_address(section.base_url, (*place, "base_url")).rstrip("/") + "/",
            digest=section.digest,
            remind_every=section.remind_every,
            mentions={str(kind): who for kind, who in section.mentions.items()},
        )

    def _webhook(self) -> WebhookSettings | None:
        section = self.file.webhook
        if section is None or not section.url:
            return None
        return WebhookSettings(
            url=Secret(self._web_address(section.url, ("webhook", "url"))),
            secret=self._optional_secret(section.secret, ("webhook", "secret")),
        )

    def _privacy(self, endpoints: Iterable[Endpoint]) -> Privacy:
        section = self.file.privacy
        self._check_segments(section.exclude_segments, ("privacy", "exclude_segments"))
        allowed = section.egress_allow
        if allowed is None:
            allowed = sorted({urlsplit(endpoint.base_url).hostname or "" for endpoint in endpoints})
        return Privacy(
            store_bodies=section.store_bodies,
            redact=tuple(section.redact),
            redact_before_replay=section.redact_before_replay,
            egress_allow=tuple(allowed),
            exclude_segments={
                name: tuple(values) for name, values in section.exclude_segments.items()
            },
        )

    def _server(self) -> Server:
        section = self.file.server
        host, port = split_bind(section.bind)
        return Server(
            host=host,
            port=port,
            public_url=section.public_url.rstrip("/"),
            token=self._optional_secret(section.token, ("server", "token")),
        )

    # --- values -----------------------------------------------------------------------------

    def _address(self, url: str, place: Place) -> Address:
        """The checked address; plain http only on this machine and to hosts allowed by name."""
        try:
            address = parse_address(url)
        except BadAddress as error:
            self._wrong(place, str(error))
            return Address(url="", host="", port=0, is_plain_http=False)
        allowed = self.file.privacy.egress_allow or ()
        if address.is_plain_http and not (address.is_loopback or address.is_named_in(allowed)):
            self._wrong(
                place,
                f"must be https: plain http is for this machine and for hosts named in "
                f"privacy.egress_allow (here {address.host})",
            )
        return address

    def _web_address(self, url: str, place: Place) -> str:
        return self._address(url, place).url if url else ""

    def _secret(self, value: str, place: Place) -> Secret:
        expansion = self.document.expansions.get(place)
        if value and expansion is None:
            self._wrong(place, "literal keys are refused: put it in the environment, write ${NAME}")
        elif expansion is not None and expansion.has_default:
            self._wrong(place, "the default of a key may only be empty: ${NAME:-}")
        return Secret(value)

    def _optional_secret(self, value: str | None, place: Place) -> Secret | None:
        secret = Secret("") if value is None else self._secret(value, place)
        return secret or None

    def _default(self, reference: str, place: Place) -> str:
        try:
            return self.references.expand(reference).text
        except BrokenReference as error:
            self._wrong(place, str(error))
            return ""

    def _text(self, value: str, place: Place) -> str:
        """The value, or the content of the file that `file:PATH` names."""
        if not value.startswith("file:"):
            return value
        path = self._found(value.removeprefix("file:"))
        try:
            return self.references.read(path)
        except (OSError, UnicodeDecodeError) as error:
            self._wrong(place, f"file {path} cannot be read: {reason_of(error)}")
            return ""

    def _found(self, path: str) -> Path:
        """The file beside the plan, beside the plan's folder, or in the working directory."""
        folder = self.references.folder
        places = (folder / path, folder.parent / path, Path(path))
        return next((place for place in places if place.exists()), Path(path))

    def _wrong(self, place: Place, message: str) -> None:
        self.findings.add(place, message, line=self.document.line(place))


def price_of(section: PriceSection) -> Price:
    """The section as a Price."""
    return Price(
        rates=_rates(section),
        tiers=tuple(
            Tier(above_input_tokens=tier.above_input_tokens, rates=_rates(tier))
            for tier in section.tiers
        ),
        per_request_usd=section.per_request_usd,
    )


def embedding_price_of(section: EmbeddingPriceSection) -> Price:
    """The section as a Price; nothing is generated, so output costs nothing."""
    return Price(
        rates=Rates(input=section.input, output=Decimal(0)),
        per_request_usd=section.per_request_usd,
    )


def _rates(section: RatesSection) -> Rates:
    return Rates(**{field.name: getattr(section, field.name) for field in fields(Rates)})


def _is_secret_name(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def _has_password(dsn: str) -> bool:
    parts = urlsplit(dsn)
    return bool(parts.password) or "password=" in parts.query
