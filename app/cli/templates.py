"""The commented plan that comes with the program."""

from pathlib import Path

from app.cli.first_plans import plan_text
from app.domain.errors import ConfigError
from app.plans import plan_json_schema
from app.ports import FoundLog

_CONFIG = Path(__file__).resolve().parents[2] / "config"


def write_plan(path: Path, log: FoundLog | None = None) -> tuple[Path, ...]:
    """Write a plan, its rubric and the schema for editors beside it; name the files.

    Args:
        path: Where the plan shall be.
        log: What was found and goes into the plan; the example as it is without it.

    Raises:
        ConfigError: If the plan exists already or cannot be written.
    """
    import json

    if path.exists():
        raise ConfigError(f"{path} exists already: nothing was written")
    rubric = path.parent / "rubrics" / "default.md"
    schema = path.parent / "switchwise.schema.json"
    example = (_CONFIG / "switchwise.yaml").read_text(encoding="utf-8")
    text = plan_text(example, log)
    texts = {
        path: text.replace("file:config/rubrics/", "file:rubrics/"),
        rubric: (_CONFIG / "rubrics" / "default.md").read_text(encoding="utf-8"),
        schema: json.dumps(plan_json_schema(), indent=2) + "\n",
    }
    try:
        rubric.parent.mkdir(parents=True, exist_ok=True)
        missing = [file for file in texts if not file.exists()]
        for file in missing:
            file.write_text(texts[file], encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return tuple(missing)
