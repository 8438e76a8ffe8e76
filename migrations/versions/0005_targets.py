"""jobs that adapt to data of a new domain"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('target_id', sa.String(length=32), nullable=True))

    op.create_index(op.f('ix_jobs_target_id'), 'jobs', ['target_id'])


def downgrade() -> None:
    op.drop_index(op.f('ix_jobs_target_id'), table_name='jobs')
    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.drop_column('target_id')
