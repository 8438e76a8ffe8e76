"""Webhooks: deliveries and the secret that they are signed with."""
