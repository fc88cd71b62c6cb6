"""Tables beside the records, made on first use: who may ask a service, and imports that it works through.

They are no part of the store's own schema, so a store that a service has opened is still read by everybody.
"""

import sqlalchemy as sa

from metainf.store.database import Database
from metainf.store.tables import TEXT

BESIDE = sa.MetaData()

KEYS = sa.Table(
    "metainf_keys",
    BESIDE,
    sa.Column("key_id", TEXT, primary_key=True),
    sa.Column("name", TEXT, nullable=False),
    sa.Column("scope", TEXT, nullable=False),
    sa.Column("digest", TEXT, nullable=False),
    sa.Column("made_at", TEXT, nullable=False),
    sa.Column("revoked_at", TEXT),
)

JOBS = sa.Table(
    "metainf_imports",
    BESIDE,
    sa.Column("job_id", TEXT, primary_key=True),
    sa.Column("made_at", TEXT, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("owner", TEXT),
    sa.Column("beat_s", sa.Float, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("metainf_imports_state", "state", "made_at"),
)


def prepare(database: Database) -> None:
    """Make the tables where they are not there yet."""
    with database.write() as connection:
        BESIDE.create_all(connection)
