"""jobs that adapt a model of the user's own without source data"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == 'sqlite':
        _replace('source_id', '')
    else:
        op.alter_column('jobs', 'source_id', existing_type=sa.String(length=32), nullable=True)


def downgrade() -> None:
    if op.get_bind().dialect.name == 'sqlite':
        _replace("COALESCE(source_id, '')", "DEFAULT '' NOT NULL")
    else:
        op.execute("UPDATE jobs SET source_id = '' WHERE source_id IS NULL")
        op.alter_column('jobs', 'source_id', existing_type=sa.String(length=32), nullable=False)


def _replace(value: str, rule: str) -> None:
    # SQLite cannot change a column. Making the whole table anew, as a batch would, drops the old one, and with it, by
    # their foreign keys, all events and deliveries; so a new column takes the old one's place.
    op.drop_index('ix_jobs_source_id', table_name='jobs')
    op.execute(f'ALTER TABLE jobs ADD COLUMN new_source_id VARCHAR(32) {rule}')
    op.execute(f'UPDATE jobs SET new_source_id = {value}')
    op.execute('ALTER TABLE jobs DROP COLUMN source_id')
    op.execute('ALTER TABLE jobs RENAME COLUMN new_source_id TO source_id')
    op.create_index('ix_jobs_source_id', 'jobs', ['source_id'])
