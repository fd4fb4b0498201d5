import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.settings import Settings
from tests.processes import environment, switchwise

ROOT = Path(__file__).resolve().parents[2]
#: Compose variables that configure containers beside ours.
FOREIGN_VARIABLES = {"POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB"}


def known_variables() -> set[str]:
    aliases = {str(field.validation_alias) for field in Settings.model_fields.values()}
    return aliases | FOREIGN_VARIABLES


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_every_file_that_the_image_copies_exists() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copies for source in line.split()[:-1]]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_runs_as_nobody_special_with_a_healthcheck() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert re.search(r'CMD \["python", "-m", "app", "status", "--health"\]', text)
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2


def test_the_healthcheck_is_a_command_that_exists() -> None:
    shown = switchwise("status", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--health" in shown.stdout


def test_the_compose_file_names_only_variables_the_settings_know() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in compose["services"].items():
        unknown = set(service.get("environment", {})) - known_variables()
        assert not unknown, f"{name}: {unknown}"
    substituted = re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())
    assert set(substituted) <= known_variables()


def test_the_compose_file_publishes_no_database_port_and_pins_its_images() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert "ports" not in services["postgres"]
    assert re.fullmatch(r"postgres:17\.\d+", services["postgres"]["image"])
    assert services["switchwise"]["read_only"] is True


def test_the_entrypoint_migrates_before_it_serves_and_becomes_the_service(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    python.chmod(0o755)
    env = environment()
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    for arguments in (["serve"], ["report", "--json"]):
        subprocess.run(
            [str(ROOT / "docker-entrypoint.sh"), *arguments], env=env, check=True, cwd=tmp_path
        )
    assert log.read_text().splitlines() == [
        "-m app db upgrade",
        "-m app serve",
        "-m app report --json",
    ]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-service.lock"])
def test_a_lock_pins_every_package_by_hash_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text)
    pinned = [block for block in blocks if "==" in block.splitlines()[0]]
    assert len(pinned) > 40
    assert [block.splitlines()[0] for block in pinned if "--hash=sha256:" not in block] == []


def test_the_service_runs_the_very_versions_that_were_tested() -> None:
    def pins(name: str) -> set[str]:
        found = re.findall(r"^([a-z0-9._-]+==[^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
        return set(found)

    assert pins("requirements-service.lock") <= pins("requirements.lock")


def test_migrations_do_not_shadow_their_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile("|".join(["pypi" + r"\.org", "files" + r"\.pythonhosted", "npm" + "js"]))
    named = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix not in {".png", ".gz", ".ico"}
        and hosts.search(path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert named == []


def test_every_make_command_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "README.md").read_text()))
    named |= set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_switchwise_command_of_the_readme_exists() -> None:
    shown = switchwise("--help")
    named = set(re.findall(r"switchwise ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named
    assert [name for name in named if not re.search(rf"\b{name}\b", shown.stdout)] == []


def test_the_help_comes_without_loading_vendor_kits() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['switchwise', '--help']\n"
        "from app.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'anthropic', 'openai', 'scipy', 'sqlalchemy', 'slack_sdk', 'genai_prices'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().splitlines()[-1] == "[]"


def test_every_test_file_without_a_package_has_a_name_of_its_own() -> None:
    # pytest imports such files by their base name: two of one name stop a whole run.
    names = [
        path.name
        for path in tracked_files()
        if path.name.startswith("test_") and not (path.parent / "__init__.py").exists()
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []
