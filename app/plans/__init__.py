"""Plan files: strict YAML in, Plans out."""

from app.plans.loading import load_plans
from app.plans.publishing import config_hash, plan_json_schema, public_config, secrets_of

__all__ = ["config_hash", "load_plans", "plan_json_schema", "public_config", "secrets_of"]
