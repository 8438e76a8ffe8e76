"""data sets of any modality and problem; resolved options, verdicts and estimates of jobs; publication of models"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('datasets', schema=None) as batch_op:
        batch_op.add_column(sa.Column('problem', sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column('reading', sa.JSON(none_as_null=True), nullable=True))

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('resolved', sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(sa.Column('verdict', sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column('estimate', sa.JSON(none_as_null=True), nullable=True))

    with op.batch_alter_table('models', schema=None) as batch_op:
        batch_op.add_column(sa.Column('verdict', sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column('publication', sa.JSON(none_as_null=True), nullable=True))

    # Data sets that are ready already hold images in class folders, or without labels.
    op.execute("UPDATE datasets SET problem = 'classification' WHERE labelled")


def downgrade() -> None:
    with op.batch_alter_table('models', schema=None) as batch_op:
        batch_op.drop_column('publication')
        batch_op.drop_column('verdict')

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.drop_column('estimate')
        batch_op.drop_column('verdict')
        batch_op.drop_column('resolved')

    with op.batch_alter_table('datasets', schema=None) as batch_op:
        batch_op.drop_column('reading')
        batch_op.drop_column('problem')
