"""Alembic's environment: works on the connection that `scantwin.store.migrating` hands over."""

from typing import Any, Literal

from alembic import context

from scantwin.store.models import Base
from scantwin.store.times import UtcDateTime


def _plain(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    """Lets migrations name plain types only, so that an old one still runs after our own types change."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=True,
    render_as_batch=True,
    render_item=_plain,
    transactional_ddl=True,
)
# The caller has begun the transaction and holds the lock; it also commits.
context.run_migrations()
