"""Plan files: strict, complete, and clear about what is wrong."""

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
import yaml

from app.domain.errors import ConfigError, Problem
from app.domain.models import Role, Secret
from app.domain.plans import Plan
from app.evaluation.rubrics import DEFAULT_RUBRIC
from app.plans import config_hash, load_plans, plan_json_schema, public_config, secrets_of

SMALLEST = """\
name: support-bot
primary: {name: prod, model: claude-sonnet-4-5}
candidates:
  - {name: haiku, model: claude-haiku-4-5}
logs: {table: public.ai_logs}
"""
KEY = {"LLM_API_KEY": "sk-secret-1"}
EXAMPLE = Path(__file__).parents[2] / "config" / "switchwise.yaml"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "plan.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(path: Path, **variables: str) -> Plan:
    (plan,) = load_plans(path, {**KEY, **variables})
    return plan


def problems(path: Path, variables: Mapping[str, str] = KEY) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_plans(path, variables)
    assert caught.value.exit_code == 2
    return caught.value.problems


def only_problem(path: Path, variables: Mapping[str, str] = KEY) -> Problem:
    (problem,) = problems(path, variables)
    return problem


class TestDefaults:
    def test_the_smallest_plan_gets_every_documented_default(self, write: Any) -> None:
        plan = load(write(SMALLEST))
        assert plan.primary.endpoint.base_url == "https://api.anthropic.com"
        assert plan.primary.endpoint.api_key == Secret("sk-secret-1")
        assert (plan.primary.endpoint.concurrency, plan.primary.endpoint.timeout_s) == (8, 120.0)
        assert (plan.sample.n, plan.sample.window, plan.sample.strategy) == (
            100,
            timedelta(days=7),
            "random",
        )
        assert (plan.sample.anchors, plan.sample.max_input_tokens) == (20, 32_000)
        assert [(e.type, e.gate, e.weight) for e in plan.evaluators] == [
            ("not_refused", True, 1.0),
            ("judge", False, 1.0),
        ]
        assert (plan.schedule, plan.slack, plan.webhook, plan.budget.per_run_usd) == (None,) * 4
        assert plan.privacy.egress_allow == ("api.anthropic.com",)
        assert (plan.retention.bodies, plan.retention.results) == (timedelta(days=30), None)
        assert (plan.server.host, plan.server.port) == ("127.0.0.1", 8080)

    def test_without_judge_and_evaluators_the_primary_judges(self, write: Any) -> None:
        plan = load(write(SMALLEST))
        (judge,) = plan.judges
        assert (judge.name, judge.model, judge.role) == ("judge", "claude-sonnet-4-5", Role.JUDGE)

    def test_the_gateway_and_the_log_are_found_in_the_environment(self, write: Any) -> None:
        plan = load(
            write(SMALLEST),
            LLM_BASE_URL="http://127.0.0.1:9/",
            LOGS_DATABASE_URL="postgresql://reader:pw@db/app",
        )
        assert plan.primary.endpoint.base_url == "http://127.0.0.1:9"
        assert plan.logs.dsn == Secret("postgresql://reader:pw@db/app")

    def test_the_example_plan_loads_with_nothing_but_a_key(self) -> None:
        plan = load(EXAMPLE)
        assert plan.name == "support-bot"
        assert plan.judge is not None
        assert plan.judge.rubric == DEFAULT_RUBRIC
        assert plan.slack is None


class TestYaml:
    def test_an_unknown_key_is_refused_with_the_nearest_valid_one(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST + "sample:\n  n: 10\n  windw: 7d\n"))
        assert (problem.line, problem.key) == (8, "sample.windw")
        assert "did you mean `window`?" in problem.message

    def test_a_key_in_the_wrong_section_is_pointed_to_the_right_one(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST + "timezone: Europe/London\n"))
        assert "did you mean `schedule.timezone`?" in problem.message

    def test_a_duplicate_key_is_refused_with_both_lines(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST + "name: other\n"))
        assert (problem.line, problem.key) == (6, "name")
        assert "first on line 1" in problem.message

    def test_a_python_tag_is_refused_and_not_executed(self, write: Any, tmp_path: Path) -> None:
        mark = tmp_path / "executed"
        tag = f"!!python/object/apply:pathlib.Path.touch [!!python/name:x '{mark}']"
        found = problems(write(SMALLEST + f"heartbeat_url: {tag}\n"))
        assert found[0].line == 6
        assert "!!python/object/apply:pathlib.Path.touch is not allowed" in found[0].message
        assert not mark.exists()

    @pytest.mark.parametrize("word", ["no", "on", "012", "2023-06-01", "1:30"])
    def test_words_that_old_yaml_turns_into_other_types_stay_text(
        self, write: Any, word: str
    ) -> None:
        text = SMALLEST.replace("model: claude-haiku-4-5", f"model: x, api_version: {word}")
        if word == "012":
            assert "put it in quotes" in only_problem(write(text)).message
        else:
            assert load(write(text)).candidates[0].endpoint.api_version == word

    def test_broken_yaml_names_the_line(self, write: Any) -> None:
        problem = only_problem(write("name: a\nprimary: [1, 2\nlogs: {}\n"))
        assert problem.line in {2, 3}
        assert "not valid YAML" in problem.message

    def test_an_unquoted_reference_in_braces_gets_a_hint(self, write: Any) -> None:
        problem = only_problem(write("name: a\nslack: {token: ${TOKEN}, channel: C1}\n"))
        assert problem.line == 2
        assert 'put references in quotes: "${VAR}"' in problem.message

    def test_deep_nesting_is_refused_instead_of_crashing(self, write: Any) -> None:
        assert "nested too deeply" in only_problem(write("a: " + "[" * 5_000)).message

    def test_aliases_cannot_multiply_without_bound(self, write: Any) -> None:
        bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
        assert any("20,000 values" in problem.message for problem in problems(write(bomb)))

    def test_a_list_that_holds_itself_is_refused(self, write: Any) -> None:
        found = problems(write(SMALLEST + "sample: &s\n  by: *s\n"))
        assert any("alias of something around it" in problem.message for problem in found)

    def test_merge_keys_fill_what_a_mapping_leaves_out(self, write: Any) -> None:
        text = SMALLEST.replace(
            "  - {name: haiku, model: claude-haiku-4-5}\n",
            "  - &base {name: one, model: m1, price: {input: 1, output: 2}}\n"
            "  - {<<: *base, name: two, model: m2}\n",
        )
        two = load(write(text)).candidates[1]
        assert (two.name, two.model) == ("two", "m2")
        assert two.price is not None
        assert two.price.rates.output == Decimal(2)

    @pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "a: 1\n---\nb: 2\n"])
    def test_a_file_that_is_no_mapping_is_refused(self, write: Any, text: str) -> None:
        assert problems(write(text))

    def test_everything_wrong_is_told_at_once_in_the_order_of_the_file(self, write: Any) -> None:
        text = SMALLEST + "sampel: {}\npolicy: {quality_margin: 2}\nserver: {bind: 8080}\n"
        found = problems(write(text), {})
        assert [problem.key for problem in found] == [
            "sampel",
            "policy.quality_margin",
            "server.bind",
        ]
        assert all(problem.file and problem.line for problem in found)

    def test_a_missing_file_says_what_to_do(self, tmp_path: Path) -> None:
        assert "switchwise init" in only_problem(tmp_path / "none.yaml").message

    def test_a_missing_required_key_is_named(self, write: Any) -> None:
        text = SMALLEST.replace("primary: {name: prod, model: claude-sonnet-4-5}\n", "")
        problem = only_problem(write(text))
        assert (problem.key, problem.message) == ("primary", "is required")


class TestReferences:
    def test_an_unset_variable_is_named_with_its_line(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST + "heartbeat_url: ${HEARTBEAT_URL}\n"))
        assert (problem.line, problem.key) == (6, "heartbeat_url")
        assert "HEARTBEAT_URL is not set" in problem.message

    def test_the_key_is_missed_even_when_only_a_default_asks_for_it(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST), {"LLM_API_KEY": ""})
        assert problem.key == "gateway.api_key"
        assert "LLM_API_KEY is empty" in problem.message

    def test_no_key_is_asked_for_when_every_model_brings_its_own(self, write: Any) -> None:
        text = SMALLEST.replace("model: claude", "api_key: '${OWN}', model: claude")
        (plan,) = load_plans(write(text), {"OWN": "k"})
        assert plan.candidates[0].endpoint.api_key.reveal() == "k"

    def test_defaults_numbers_and_files_are_filled_in(self, write: Any, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("from-file\n")
        text = (
            SMALLEST + f"gateway: {{api_key: '${{file:{secret}}}'}}\nsample: {{n: '${{N:-7}}'}}\n"
        )
        assert load(write(text)).sample.n == 7
        plan = load(write(text), N="12")
        assert plan.sample.n == 12
        assert plan.primary.endpoint.api_key.reveal() == "from-file"

    def test_an_unreadable_secret_file_is_named(self, write: Any) -> None:
        text = SMALLEST + "gateway: {api_key: '${file:/nowhere/key}'}\n"
        assert "/nowhere/key cannot be read" in only_problem(write(text)).message

    def test_a_doubled_dollar_stands_for_itself(self, write: Any) -> None:
        text = SMALLEST.replace("ai_logs}", "ai_logs, where: \"a = '$${b}'\"}")
        assert load(write(text)).logs.where == "a = '${b}'"

    @pytest.mark.parametrize("reference", ["${}", "${1A}", "${A B}", "${A", "${A:-${B}}"])
    def test_a_malformed_reference_is_refused(self, write: Any, reference: str) -> None:
        problem = only_problem(write(SMALLEST + f"heartbeat_url: '{reference}'\n"))
        assert "malformed reference" in problem.message

    @pytest.mark.parametrize(
        ("line", "key"),
        [
            ("gateway: {api_key: sk-literal}", "gateway.api_key"),
            ("gateway: {api_key: '${K:-sk-literal}'}", "gateway.api_key"),
            ("gateway: {headers: {X-Api-Key: sk-literal}}", "gateway.headers.X-Api-Key"),
            ("slack: {token: xoxb-literal, channel: C1}", "slack.token"),
            ("slack: {webhook_url: 'https://hooks.slack.com/literal'}", "slack.webhook_url"),
            ("server: {token: sk-literal}", "server.token"),
            ("webhook: {url: 'https://x.test', secret: sk-literal}", "webhook.secret"),
        ],
    )
    def test_a_literal_key_is_refused_and_not_repeated(
        self, write: Any, line: str, key: str
    ) -> None:
        problem = only_problem(write(SMALLEST + line + "\n"))
        assert problem.key == key
        assert "literal" not in problem.message.replace("literal keys are refused", "")

    def test_a_literal_password_in_a_dsn_is_refused_but_not_a_reference(self, write: Any) -> None:
        def text(dsn: str) -> str:
            return SMALLEST.replace("{table", f"{{dsn: '{dsn}', table")

        problem = only_problem(write(text("postgresql://u:hunter2@db/app")))
        assert problem.key == "logs.dsn"
        assert "hunter2" not in str(problem)
        plan = load(write(text("postgresql://u:${PW}@db/app")), PW="x")
        assert plan.logs.dsn == Secret("postgresql://u:x@db/app")
        assert load(write(text("postgresql:///app?host=/run/pg"))).logs.dsn

    def test_an_endpoint_without_keys_can_say_so(self, write: Any) -> None:
        plan = load(write(SMALLEST + "gateway: {base_url: 'http://localhost:1', api_key: ''}\n"))
        assert not plan.primary.endpoint.api_key

    def test_slack_without_a_token_by_choice_leaves_the_console(self, write: Any) -> None:
        text = SMALLEST + "slack: {token: '${SLACK_BOT_TOKEN:-}', channel: C1}\n"
        assert load(write(text)).slack is None
        with_token = load(write(text), SLACK_BOT_TOKEN="xoxb-1")
        assert with_token.slack is not None
        assert with_token.slack.base_url == "https://slack.com/api/"

    def test_slack_takes_its_token_from_the_environment(self, write: Any) -> None:
        path = write(SMALLEST + "slack: {channel: C1}\n")
        assert "SLACK_BOT_TOKEN is not set" in only_problem(path).message
        plan = load(path, SLACK_BOT_TOKEN="xoxb-1")
        assert plan.slack is not None
        assert plan.slack.token == Secret("xoxb-1")


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("ftp://x.test", "must start with https://"),
            ("api.anthropic.com", "must start with https://"),
            ("https://", "no host"),
            ("https://x.test:99999", "not a URL"),
            ("https://user:pw@x.test", "must not carry a user name"),
            ("http://llm.example.com", "must be https"),
            ("https://x.test/v1", "must not end in /v1"),
            ("https://x.test/v1/", "must not end in /v1"),
            ("http://169.254.169.254", "metadata"),
            ("http://2852039166", "metadata"),
            ("http://0xA9FEA9FE", "metadata"),
            ("http://[::ffff:169.254.169.254]", "metadata"),
            ("https://metadata.google.internal", "metadata"),
            ("http://[fd00:ec2::254]", "metadata"),
            ("https://[64:ff9b::a9fe:a9fe]", "metadata"),
            ("https://[2002:a9fe:a9fe::1]", "metadata"),
            ("https://[::a9fe:a9fe]", "metadata"),
            ("https://0251.0376.0251.0376", "metadata"),
            ("https://169.254.43518", "metadata"),
            ("https://168.63.129.16", "metadata"),
        ],
    )
    def test_a_bad_gateway_address_is_refused(self, write: Any, url: str, words: str) -> None:
        text = SMALLEST + f"gateway:\n  base_url: '{url}'\n"
        problem = problems(write(text))[0]
        assert (problem.key, problem.line) == ("gateway.base_url", 7)
        assert words in problem.message

    @pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:8", "127.9.9.9"])
    def test_plain_http_is_fine_on_this_machine(self, write: Any, host: str) -> None:
        plan = load(write(SMALLEST + f"gateway: {{base_url: 'http://{host}'}}\n"))
        assert plan.primary.endpoint.base_url == f"http://{host}"

    def test_plain_http_is_fine_where_it_is_allowed_by_name(self, write: Any) -> None:
        text = SMALLEST + "gateway: {base_url: 'http://gateway:4000'}\n"
        assert "must be https" in only_problem(write(text)).message
        assert load(write(text + "privacy: {egress_allow: [gateway]}\n"))

    def test_an_openai_address_may_end_in_v1(self, write: Any) -> None:
        text = SMALLEST + "gateway: {base_url: 'https://x.test/v1', api: openai}\n"
        assert load(write(text)).primary.endpoint.api == "openai"

    def test_prompts_go_to_no_host_that_egress_allow_leaves_out(self, write: Any) -> None:
        text = SMALLEST + "gateway: {base_url: 'http://127.0.0.1:1'}\n"
        text += "privacy: {egress_allow: [api.anthropic.com]}\n"
        problem = only_problem(write(text))
        assert problem.key == "gateway.base_url"
        assert "127.0.0.1 is not in privacy.egress_allow" in problem.message

    def test_a_key_is_not_sent_to_another_host_by_inheritance(self, write: Any) -> None:
        text = SMALLEST.replace("model: claude-haiku", "base_url: 'https://o.test', model: haiku")
        problem = only_problem(write(text))
        assert problem.key == "candidates[0].api_key"
        assert "is required" in problem.message

    def test_another_port_of_the_gateway_shares_its_key(self, write: Any) -> None:
        text = SMALLEST.replace("model: claude-haiku", "base_url: 'http://[::1]:2', model: haiku")
        plan = load(write(text + "gateway: {base_url: 'http://[::1]:1'}\n"))
        assert plan.candidates[0].endpoint.api_key == Secret("sk-secret-1")


class TestTimes:
    def test_a_wrong_time_zone_gets_a_suggestion(self, write: Any) -> None:
        text = SMALLEST + "schedule: {cron: '0 6 * * sun', timezone: Europe/Lodnon}\n"
        problem = only_problem(write(text))
        assert problem.key == "schedule.timezone"
        assert "did you mean Europe/London?" in problem.message

    def test_a_city_alone_is_completed(self, write: Any) -> None:
        text = SMALLEST + "schedule: {cron: '0 6 * * sun', timezone: berlin}\n"
        assert "did you mean Europe/Berlin?" in only_problem(write(text)).message

    @pytest.mark.parametrize("weekday", ["1", "0", "7", "1-5", "*/2", "mon,3"])
    def test_a_numbered_weekday_is_refused_with_the_reason(self, write: Any, weekday: str) -> None:
        problem = only_problem(write(SMALLEST + f"schedule: {{cron: '0 6 * * {weekday}'}}\n"))
        assert problem.key == "schedule.cron"
        assert "numbers mean different days" in problem.message

    @pytest.mark.parametrize(
        ("cron", "words"),
        [
            ("@weekly", "five fields"),
            ("0 6 * *", "five fields"),
            ("0 6 * * sund", "did you mean `sun`?"),
            ("99 6 * * sun", "is no cron expression"),
            ("0 6 31 2 *", "never comes"),
        ],
    )
    def test_a_cron_expression_that_asks_for_nothing_is_refused(
        self, write: Any, cron: str, words: str
    ) -> None:
        problem = only_problem(write(SMALLEST + f"schedule: {{cron: '{cron}'}}\n"))
        assert words in problem.message

    @pytest.mark.parametrize("cron", ["0 6 * * sun", "*/30 8-18 * * mon-fri", "0 6 1 * *"])
    def test_usual_cron_expressions_are_taken(self, write: Any, cron: str) -> None:
        plan = load(write(SMALLEST + f"schedule: {{cron: '{cron}', timezone: America/New_York}}\n"))
        assert plan.schedule is not None
        assert (plan.schedule.cron, plan.schedule.timezone.key) == (cron, "America/New_York")

    @pytest.mark.parametrize(
        ("text", "duration"),
        [
            ("7d", timedelta(days=7)),
            ("24h", timedelta(days=1)),
            ("90m", timedelta(hours=1.5)),
            ("2w", timedelta(days=14)),
            ("1.5h", timedelta(minutes=90)),
        ],
    )
    def test_durations_carry_their_unit(self, write: Any, text: str, duration: timedelta) -> None:
        assert load(write(SMALLEST + f"sample: {{window: {text}}}\n")).sample.window == duration

    @pytest.mark.parametrize("text", ["7", "week", "-7d", "7 days", "0d"])
    def test_a_duration_without_a_sensible_meaning_is_refused(self, write: Any, text: str) -> None:
        assert (
            only_problem(write(SMALLEST + f"sample: {{window: {text}}}\n")).key == "sample.window"
        )

    def test_retention_can_be_for_ever(self, write: Any) -> None:
        assert load(write(SMALLEST + "retention: {bodies: forever}\n")).retention.bodies is None


class TestModelsAndLogs:
    def test_two_models_cannot_share_a_name(self, write: Any) -> None:
        text = SMALLEST.replace("logs:", "  - {name: haiku, model: other}\nlogs:")
        problem = only_problem(write(text))
        assert problem.key == "candidates[1].name"

    def test_a_candidate_that_is_the_primary_is_refused(self, write: Any) -> None:
        text = SMALLEST.replace("claude-haiku-4-5", "claude-sonnet-4-5")
        assert "is the same model as the primary" in only_problem(write(text)).message

    def test_the_same_model_with_other_parameters_is_a_candidate(self, write: Any) -> None:
        text = SMALLEST.replace("claude-haiku-4-5", "claude-sonnet-4-5, params: {max_tokens: 9}")
        assert load(write(text)).candidates[0].params == {"max_tokens": 9}

    def test_a_listed_judge_needs_its_section(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST + "evaluators: [{type: judge}]\n"))
        assert (problem.key, problem.message) == (
            "evaluators[0]",
            "needs a `judge` section with `models`",
        )

    def test_prices_are_exact_decimals(self, write: Any) -> None:
        price = (
            "{input: 0.22, output: 0.1, tiers: [{above_input_tokens: 200000, input: 1, output: 2}]}"
        )
        text = SMALLEST.replace("model: claude-haiku-4-5", f"model: x, price: {price}")
        found = load(write(text)).candidates[0].price
        assert found is not None
        assert (found.rates.input, found.rates.output) == (Decimal("0.22"), Decimal("0.1"))
        assert found.tiers[0].rates.output == Decimal(2)

    @pytest.mark.parametrize(
        ("logs", "key"),
        [
            ("{table: 'a; drop table b'}", "logs.table"),
            ("{table: t, columns: {prompt: 'a; b'}}", "logs.columns.prompt"),
            ("{table: t, columns: {promt: a}}", "logs.columns.promt"),
            ("{table: t, where: 'a = 1; delete from t'}", "logs.where"),
            ('{table: t, where: "a = \'open"}', "logs.where"),
            ("{table: t, segments: {team: 'a) --'}}", "logs.segments.team"),
            ("{table: t, query: select 1}", "logs"),
            ("{preset: file}", "logs"),
            ("{preset: generic}", "logs"),
            ("{preset: litelm}", "logs.preset"),
        ],
    )
    def test_a_log_that_cannot_be_read_safely_is_refused(
        self, write: Any, logs: str, key: str
    ) -> None:
        assert only_problem(write(SMALLEST.replace("{table: public.ai_logs}", logs))).key == key

    def test_json_paths_and_quoted_names_are_columns(self, write: Any) -> None:
        logs = """{table: '"Logs"', columns: {prompt: "body->'messages'->0->>'content'"}}"""
        plan = load(write(SMALLEST.replace("{table: public.ai_logs}", logs)))
        assert plan.logs.columns["prompt"] == "body->'messages'->0->>'content'"

    def test_a_query_can_live_in_a_file_beside_the_plan(self, write: Any) -> None:
        write("SELECT id, prompt FROM logs;\n", "logs.sql")
        text = SMALLEST.replace("{table: public.ai_logs}", "{query: file:logs.sql}")
        assert load(write(text)).logs.query == "SELECT id, prompt FROM logs"

    def test_strata_must_be_known_segments(self, write: Any) -> None:
        problem = only_problem(write(SMALLEST + "sample: {by: route}\n"))
        assert problem.key == "sample.by"
        text = SMALLEST.replace("ai_logs}", "ai_logs, segments: {route: route}}")
        plan = load(write(text + "sample: {by: route}\n"))
        assert (plan.sample.strategy, plan.sample.by) == ("stratified", ("route",))

    def test_stratified_alone_means_all_segments_together(self, write: Any) -> None:
        text = SMALLEST.replace("ai_logs}", "ai_logs, segments: {a: a, b: b}}")
        assert load(write(text + "sample: {strategy: stratified}\n")).sample.by == ("a", "b")

    def test_keeping_no_bodies_turns_anchors_off(self, write: Any) -> None:
        assert load(write(SMALLEST + "privacy: {store_bodies: none}\n")).sample.anchors == 0


class TestEvaluators:
    @pytest.mark.parametrize(
        ("evaluator", "key", "words"),
        [
            ("{type: exakt}", "type", "did you mean `exact`?"),
            ("{type: judge, gate: true}", "gate", "cannot be a gate"),
            ("{type: exact, compare: any}", "compare", "'text', 'literal' or 'raw'"),
            ("{type: judge, repeats: 2}", "repeats", "did you mean `judge.repeats`?"),
            ("{type: exact, expectd: x}", "expectd", "did you mean `expected`?"),
            ("{type: 'python:nothing'}", "type", "python:module:Name"),
            ("{type: exact, weight: 0}", "weight", "greater than 0"),
            ("{type: exact, when: {route: a}}", "when", "no segment 'route'"),
        ],
    )
    def test_a_wrong_evaluator_is_refused(
        self, write: Any, evaluator: str, key: str, words: str
    ) -> None:
        judge = "judge: {models: [{name: judge, model: claude-opus-4-5}]}\n"
        problem = only_problem(write(SMALLEST + judge + f"evaluators:\n  - {evaluator}\n"))
        assert (problem.line, problem.key) == (8, f"evaluators[0].{key}")
        assert words in problem.message

    @pytest.mark.parametrize(
        ("evaluator", "words"),
        [
            ("{type: regex, pattern: '('}", "regular expression"),
            ("{type: length}", "at_least"),
            ("{type: regex}", "pattern"),
        ],
    )
    def test_options_that_make_no_sense_together_are_refused(
        self, write: Any, evaluator: str, words: str
    ) -> None:
        problem = only_problem(write(SMALLEST + f"evaluators:\n  - {evaluator}\n"))
        assert problem.key == "evaluators[0]"
        assert words in problem.message

    def test_a_json_schema_can_live_in_a_file(self, write: Any) -> None:
        write('{"type": "object"}', "reply.json")
        text = SMALLEST + "evaluators: [{type: json_schema, schema: file:reply.json}]\n"
        (evaluator,) = load(write(text)).evaluators
        assert evaluator.options == {"schema": {"type": "object"}}

    def test_own_python_evaluators_take_any_option(self, write: Any) -> None:
        text = SMALLEST + "evaluators: [{type: 'python:team.evals:Tone', level: 3}]\n"
        (evaluator,) = load(write(text)).evaluators
        assert evaluator.options == {"level": 3}


class TestDirectories:
    def test_each_file_of_a_directory_is_a_plan(self, write: Any, tmp_path: Path) -> None:
        write(SMALLEST, "plans/a.yaml")
        write(SMALLEST.replace("support-bot", "other"), "plans/b.yml")
        write("prices: {}\n", "plans/prices.yaml")
        plans = load_plans(tmp_path / "plans", KEY)
        assert [plan.name for plan in plans] == ["support-bot", "other"]

    def test_two_plans_cannot_share_a_name(self, write: Any, tmp_path: Path) -> None:
        write(SMALLEST, "plans/a.yaml")
        write(SMALLEST, "plans/b.yaml")
        assert "is already in" in only_problem(tmp_path / "plans").message

    def test_problems_of_all_files_are_told(self, write: Any, tmp_path: Path) -> None:
        write(SMALLEST + "x: 1\n", "plans/a.yaml")
        write(SMALLEST + "y: 1\n", "plans/b.yaml")
        assert {problem.key for problem in problems(tmp_path / "plans")} == {"x", "y"}

    def test_an_empty_directory_is_refused(self, tmp_path: Path) -> None:
        assert "holds no plan" in only_problem(tmp_path).message


class TestPublishing:
    SECRETS: ClassVar = {
        "LLM_API_KEY": "sk-secret-1",
        "DB": "postgresql://u:hunter2@db.internal/app",
        "SLACK_BOT_TOKEN": "xoxb-secret-2",
        "HEART": "https://hc.test/ping/secret-3",
        "HEAD": "secret-4",
    }
    FULL = (
        SMALLEST.replace("{table", "{dsn: '${DB}', table")
        + "slack: {channel: C1}\nheartbeat_url: ${HEART}\n"
        + "gateway: {headers: {X-Auth: '${HEAD}'}}\n"
    )

    def test_the_public_form_holds_no_secret(self, write: Any) -> None:
        plan = load(write(self.FULL), **self.SECRETS)
        text = json.dumps(public_config(plan))
        assert not [value for value in ("secret-", "hunter2", "xoxb", "sk-") if value in text]
        assert "postgresql://db.internal/app" in text

    def test_every_secret_value_can_be_masked(self, write: Any) -> None:
        plan = load(write(self.FULL), **self.SECRETS)
        wanted = {"sk-secret-1", self.SECRETS["DB"], "xoxb-secret-2", "secret-4"}
        assert wanted <= secrets_of(plan)

    def test_the_digest_tells_measurements_apart_and_nothing_else(self, write: Any) -> None:
        digest = load(write(SMALLEST)).config_hash
        assert load(write(SMALLEST), LLM_API_KEY="another").config_hash == digest
        assert load(
            write(SMALLEST + "slack: {channel: C1}\n"), SLACK_BOT_TOKEN="x"
        ).config_hash == (digest)
        assert load(write(SMALLEST + "sample: {n: 50}\n")).config_hash != digest
        plan = load(write(SMALLEST))
        assert config_hash(plan) == digest

    def test_the_json_schema_accepts_the_example_and_refuses_a_typo(self) -> None:
        schema = plan_json_schema()
        example = yaml.safe_load(EXAMPLE.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(example, schema)
        example["sample"]["windw"] = "7d"
        with pytest.raises(jsonschema.ValidationError, match="windw"):
            jsonschema.validate(example, schema)

    def test_the_json_schema_explains_every_key(self) -> None:
        schema: Any = plan_json_schema()
        silent = [
            f"{name}.{key}"
            for name, section in schema["$defs"].items()
            for key, value in section["properties"].items()
            if "description" not in value
        ]
        assert silent == []
