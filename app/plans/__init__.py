"""Plan files: strict YAML in, Plans out."""

from app.plans.loading import PRICES_FILE, load_plans
from app.plans.publishing import config_hash, plan_json_schema, public_config, secrets_of

__all__ = [
    "PRICES_FILE",
    "config_hash",
    "load_plans",
    "plan_json_schema",
    "public_config",
    "secrets_of",
]
