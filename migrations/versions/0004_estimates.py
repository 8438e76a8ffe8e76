"""what earlier runs took, and measurements on demand"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'profiles',
        sa.Column('device', sa.String(length=256), nullable=False),
        sa.Column('network', sa.String(length=160), nullable=False),
        sa.Column('kind', sa.String(length=32), nullable=False),
        sa.Column('variant', sa.String(length=128), nullable=False),
        sa.Column('data', sa.String(length=64), nullable=False),
        sa.Column('values', sa.JSON(none_as_null=True), nullable=False),
        sa.Column('facts', sa.JSON(none_as_null=True), nullable=False),
        sa.Column('source', sa.String(length=16), nullable=False),
        sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint('device', 'network', 'kind', 'variant', 'data', name=op.f('pk_profiles')),
    )
    op.create_index(op.f('ix_profiles_network_device'), 'profiles', ['network', 'device'])
    op.create_index(op.f('ix_profiles_updated_at'), 'profiles', ['updated_at'])
    op.create_table(
        'measurements',
        sa.Column('id', sa.String(length=32), nullable=False),
        sa.Column('tenant', sa.String(length=64), nullable=False),
        sa.Column('state', sa.String(length=16), nullable=False),
        sa.Column('key', sa.String(length=64), nullable=False),
        sa.Column('spec', sa.JSON(none_as_null=True), nullable=False),
        sa.Column('error', sa.JSON(none_as_null=True), nullable=True),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('attempt', sa.Integer(), server_default='0', nullable=False),
        sa.Column('lost', sa.Integer(), server_default='0', nullable=False),
        sa.Column('owner', sa.String(length=128), nullable=True),
        sa.Column('lease_until', sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_measurements')),
    )
    op.create_index(op.f('ix_measurements_state_id'), 'measurements', ['state', 'id'])
    op.create_index(op.f('ix_measurements_key_state'), 'measurements', ['key', 'state'])


def downgrade() -> None:
    op.drop_table('measurements')
    op.drop_table('profiles')
