"""Everything a process of the program imports, so that a fork of it starts at once."""

import app.cli.commands
import app.cli.hand_runs
import app.cli.output
import app.cli.reports
import app.cli.service
import app.cli.session
import app.logsources.postgres
import app.notifiers.slack
import app.providers.anthropic_client
import app.providers.prices
import app.sandbox.runner
import app.storage.alert_store
import app.storage.engine
import app.storage.journal
import app.storage.migrations
import app.storage.result_store

__all__ = ["app"]
